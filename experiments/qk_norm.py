"""Does normalising queries and keys make the learning rate matter less?

Four layers of width 128 on the source code of Python's standard library, learning rates from 1e-4 to 1e-1. The
sensitivity is the mean over the rates of how much worse than at the best one a model ends, at most as bad as it began
(Wortsman et al. 2023, section 2.2). They find that qk-norm lowers it: large learning rates make attention logits grow
without it.
"""

import math

from gpt_jax.configs import quickstart
from gpt_jax.study.compare import optima
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
MODELS = {"plain": "full", "qk-norm": "full(qk_norm='rms')"}
VOCAB = 1024
CLAIM = "lower with qk-norm (Wortsman et al. 2023, figure 1)"


def sweep():
    c = quickstart.get_config()
    c.model.update(width=128, heads=4, context=64, position="rope")
    c.optim.update(warmup=10, weight_decay=0.0, optimizer="adamw(b1=0.9, b2=0.95, eps=1e-8)")
    c.train.update(
        steps=200,
        batch=16,
        eval_every=200,
        save_every=200,
        eval_batches=60,
        z_loss=1e-4,
        on_nonfinite="skip",
        tensorboard=False,
    )
    c.sample.prompts = ()
    arms = {
        name(model, rate): {"model.attention": call, "optim.lr": rate}
        for model, call in MODELS.items()
        for rate in RATES
    }
    return Sweep(c, arms, seeds=(0, 1, 2), baseline=None)


def name(model: str, rate: float) -> str:
    return f"{model}, lr {rate:g}"


def analyse(results):
    plain, normed = (sensitivities(curve) for curve in curves(results).values())
    ratio = [b / a for a, b in zip(plain, normed, strict=True)]
    return [check_claim("learning-rate sensitivity with qk-norm / without", CLAIM, ratio, most=0.7)]


def draw(results):
    caption = "Validation loss by learning rate, means and extremes of three seeds; the ticks are each seed's optimum."
    figure = optima.draw({"": curves(results)}, "log10 of the learning rate", "validation loss, nats per token")
    return {"basins": (figure, caption)}


def curves(results) -> dict[str, optima.Curve]:
    values = results.values()
    return {
        model: {math.log10(rate): [values[name(model, rate)][seed] for seed in results.seeds] for rate in RATES}
        for model in MODELS
    }


def sensitivities(curve: optima.Curve) -> list[float]:
    """One a seed."""
    start = math.log(VOCAB)
    capped = [[min(loss, start) if math.isfinite(loss) else start for loss in losses] for losses in curve.values()]
    return [sum(losses) / len(losses) - min(losses) for losses in zip(*capped, strict=True)]
