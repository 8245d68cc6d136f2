"""Does it matter how the learning rate comes down?

Four layers of width 128 on the source code of Python's standard library, 400 steps, one peak rate after one warmup. The
baseline is a cosine to a tenth of the peak. Hägele et al. (2024) find that a constant rate and a short cooldown, which need
no length fixed beforehand, reaches the same loss; Bergsma et al. (2025) that a straight line to zero is better than the
cosine to a tenth. Without any decay the loss ends higher.
"""

from gpt_jax.configs import quickstart
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep

ARMS = {
    "cosine to 10%": {"optim.schedule": "cosine(final=0.1)"},
    "linear to 0": {"optim.schedule": "linear"},
    "constant, cooldown of a fifth": {"optim.schedule": "wsd(decay=0.2)"},
    "constant": {"optim.schedule": "constant"},
}


def sweep():
    c = quickstart.get_config()
    c.model.update(width=128, heads=4, context=64)
    c.optim.update(warmup=20)
    c.train.update(steps=400, batch=16, eval_every=100, save_every=400, eval_batches=100, tensorboard=False)
    c.sample.prompts = ()
    return Sweep(c, ARMS, seeds=(0, 1, 2), margin=0.01)


def analyse(results):
    losses = results.values()
    more = {arm: [losses[arm][seed] - losses["cosine to 10%"][seed] for seed in results.seeds] for arm in ARMS}
    cooled, straight = "constant, cooldown of a fifth", "linear to 0"
    return [
        check_claim(f"{cooled} - cosine, nats", "as good (Hägele et al. 2024)", more[cooled], most=0.01),
        check_claim(f"{straight} - cosine, nats", "better (Bergsma et al. 2025)", more[straight], most=0.0),
        check_claim("constant - cosine, nats", "worse (Hägele et al. 2024)", more["constant"], least=0.0),
    ]
