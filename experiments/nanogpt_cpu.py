"""Does the smallest configuration of nanoGPT's README reach its loss?

Four layers of width 128 on the characters of tinyshakespeare, 2000 steps of 12 x 64 tokens. nanoGPT's README gives a
validation loss of 1.88, an estimate from 20 random batches; its own code, run with two seeds, gave 1.883 and 1.913 so, and
1.896 over the whole validation text. Here the loss is that of the whole validation text.
"""

from gpt_jax.configs import nanogpt_cpu
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep


def sweep():
    c = nanogpt_cpu.get_config()
    c.train.update(eval_batches=0, eval_every=500, tensorboard=False)
    return Sweep(c, {"nanogpt_cpu": {}}, seeds=(0, 1, 2), baseline=None)


def analyse(results):
    values = results.values()["nanogpt_cpu"].values()
    return [
        check_claim("validation loss, nats per character", "1.88 (nanoGPT, README.md)", values, least=1.85, most=1.91)
    ]
