"""Does normalising queries and keys make the learning rate matter less?

Two layers of width 64 on the source code of Python's standard library, learning rates from 1e-3 to 1 by factors of about
three, 150 steps. The sensitivity is the mean over the rates of how much worse than at the best one a model ends, at most as
bad as it began (Wortsman et al. 2023, section 2.2). They find that qk-norm lowers it (figure 1): large learning rates make
attention logits grow without it. Their range of rates is as wide, and reaches as far beyond the best.
"""

import math

from gpt_jax.configs import tiny
from gpt_jax.study.compare import optima
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
MODELS = {"plain": "full", "qk-norm": "full(qk_norm='rms')"}
VOCAB, EARLY = 1024, 5


def sweep():
    c = tiny.get_config()
    c.model.position = "rope"
    c.optim.update(warmup=20, weight_decay=0.0, optimizer="adamw(b1=0.9, b2=0.95, eps=1e-8)")
    c.train.update(steps=150, eval_every=EARLY, save_every=150, eval_batches=10)
    c.train.update(z_loss=1e-4, on_nonfinite="skip")
    arms = {
        name(model, rate): {"model.attention": call, "optim.lr": rate}
        for model, call in MODELS.items()
        for rate in RATES
    }
    return Sweep(c, arms, seeds=(0, 1, 2, 3, 4), baseline=None)


def name(model: str, rate: float) -> str:
    return f"{model}, lr {rate:g}"


def analyse(results):
    def ratios(values, rates=RATES, other="qk-norm", among=RATES) -> list[float]:
        plain, normed = curve(values, results.seeds, "plain", among), curve(values, results.seeds, other, rates)
        return [b / a for a, b in zip(sensitivities(plain), sensitivities(normed), strict=True)]

    last, early = results.values(), results.values_at(EARLY)
    return [
        check_claim(
            "learning-rate sensitivity with qk-norm / without",
            "lower",
            ratios(last),
            scale="log",
            most=1.0,
            source="Wortsman et al. 2023, section 2.2 and figure 1",
            reason="lower at all; how much depends on the range of rates",
            expected=0.7,
            must_fail={f"after {EARLY} steps": ratios(early)},
            must_pass={"without, over the four lowest rates / all": ratios(last, RATES[:4], "plain")},
        )
    ]


def draw(results):
    values = results.values()
    curves = {model: curve(values, results.seeds, model) for model in MODELS}
    caption = "Validation loss by learning rate, means and extremes of five seeds; the ticks are each seed's optimum."
    figure = optima.draw({"": curves}, "log10 of the learning rate", "validation loss, nats per token")
    return {"basins": (figure, caption)}


def curve(values, seeds, model: str, rates=RATES) -> optima.Curve:
    return {math.log10(rate): [values[name(model, rate)][seed] for seed in seeds] for rate in rates}


def sensitivities(curve: optima.Curve) -> list[float]:
    """One a seed."""
    start = math.log(VOCAB)
    capped = [[min(loss, start) if math.isfinite(loss) else start for loss in losses] for losses in curve.values()]
    return [sum(losses) / len(losses) - min(losses) for losses in zip(*capped, strict=True)]
