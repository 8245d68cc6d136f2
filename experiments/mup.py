"""Does the best learning rate stay the same when a model grows, under muP?

Two layers of width 64 to 512 on the characters of tinyshakespeare, 120 steps of 12 x 64 tokens, learning rates apart by
factors of two. Yang et al. (2022, figure 1) report that the optimum stays under muP and falls with the width under the
standard parametrisation. The optimum is that of a parabola through the five losses about the lowest, one a seed.
"""

import numpy as np

from gpt_jax.configs import base
from gpt_jax.study.compare import optima
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep
from gpt_jax.study.sweep.arms import Arms

WIDTHS = (64, 128, 256, 512)
SCHEMES = {"muP": ("mup(base_width=64)", range(-10, -4)), "standard": ("gpt2", range(-12, -5))}


def sweep():
    c = base.get_config()
    c.model.update(layers=2, context=64, tied=False, bias=False)
    c.data.update(source="text(path='data/tinyshakespeare.txt')", tokenizer="chars")
    c.optim.update(schedule="cosine(final=0.1)", warmup=20, weight_decay=0.0)
    c.train.update(steps=120, batch=12, eval_every=120, eval_batches=40, save_every=120, tensorboard=False)
    c.sample.prompts = ()
    return Sweep(c, arms(), seeds=(0, 1, 2), baseline=None)


def arms() -> Arms:
    return {
        name(scheme, width, exponent): {
            "model.init": init,
            "model.width": width,
            "model.heads": width // 32,
            "optim.lr": 2.0**exponent,
        }
        for scheme, (init, exponents) in SCHEMES.items()
        for width in WIDTHS
        for exponent in exponents
    }


def name(scheme: str, width: int, exponent: int) -> str:
    return f"{scheme} {width}, 2^{exponent}"


def analyse(results):
    curves = losses(results)
    published = "stays under muP, moves without (Yang et al. 2022, figure 1)"
    return [
        check_claim(
            "muP: doublings of the learning rate between the optima of widths 64 to 512",
            published,
            moves(curves["muP"]),
            most=1,
        ),
        check_claim("standard parametrisation: the same", published, moves(curves["standard"]), least=1),
    ]


def draw(results):
    caption = "Validation loss by learning rate, means and extremes of three seeds; the ticks are each seed's optimum."
    figure = optima.draw(losses(results), "log2 of the learning rate", "validation loss, nats per character")
    return {"basins": (figure, caption)}


def losses(results) -> dict[str, dict[str, optima.Curve]]:
    """scheme -> width -> exponent -> losses by seed."""
    values = results.values()
    return {
        scheme: {
            f"width {width}": {e: [values[name(scheme, width, e)][seed] for seed in results.seeds] for e in exponents}
            for width in WIDTHS
        }
        for scheme, (_, exponents) in SCHEMES.items()
    }


def moves(curves: dict[str, optima.Curve]) -> list[float]:
    """By seed, how far the optima of the widths lie apart."""
    return [float(np.ptp(found)) for found in zip(*map(optima.by_seed, curves.values()), strict=True)]
