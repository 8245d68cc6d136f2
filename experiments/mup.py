"""Does the best learning rate stay the same when a model grows, under muP?

Two layers of width 32 to 256 on the characters of tinyshakespeare, 120 steps of 12 x 64 tokens, learning rates apart by
factors of two. Yang et al. (2022, figure 1) find that the optimum stays under muP, and that under the standard
parametrisation it falls by a factor of two or more with every two doublings of the width. The optimum is that of a parabola
through the five losses about the lowest, one a seed. No model has converged.
"""

import numpy as np

from gpt_jax.configs import base
from gpt_jax.study.compare import optima
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep
from gpt_jax.study.sweep.arms import Arms

WIDTHS = (32, 64, 128, 256)
SCHEMES = {"muP": ("mup(base_width=32)", range(-10, -3)), "standard": ("gpt2", range(-11, -3))}
YANG = "Yang et al. 2022, figure 1"


def sweep():
    c = base.get_config()
    c.model.update(layers=2, context=64, tied=False, bias=False)
    c.data.update(source="text(path='data/tinyshakespeare.txt')", tokenizer="chars")
    c.optim.update(schedule="cosine(final=0.1)", warmup=20, weight_decay=0.0)
    c.train.update(steps=120, batch=12, eval_every=120, eval_batches=40, save_every=120, tensorboard=False)
    c.train.keep_best = False
    c.sample.prompts = ()
    return Sweep(c, arms(), seeds=(0, 1, 2, 3, 4), baseline=None)


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
    stay, fall = apart(curves["muP"]), falls(curves["standard"])
    return [
        check_claim(
            f"muP: doublings of the learning rate between the optima of widths {WIDTHS[0]} to {WIDTHS[-1]}",
            "stays",
            stay,
            most=1.0,
            source=YANG,
            reason="one step of the rates that were tried, as far as their minima move",
            expected=0.4,
            must_fail={"standard parametrisation": apart(curves["standard"])},
            must_pass={"parabolas in one place": apart(known(0.0))},
        ),
        check_claim(
            f"standard parametrisation: the optimum of width {WIDTHS[0]} above that of {WIDTHS[-1]}, doublings",
            "falls",
            fall,
            least=1.0,
            source=YANG,
            reason="more than the step that is allowed to muP",
            expected=2.0,
            must_fail={"muP": falls(curves["muP"]), "parabolas that rise": falls(known(-1.0))},
            must_pass={"parabolas that fall by a doubling a width": falls(known(1.0))},
        ),
    ]


def known(fall: float) -> dict[str, optima.Curve]:
    """Parabolas whose minima fall by so many doublings from one width to the next."""
    exponents = range(-11, -2)
    return {
        str(i): {e: [(e + 7 - 1.5 * fall + fall * i) ** 2 + 0.1 * seed for seed in range(3)] for e in exponents}
        for i in range(len(WIDTHS))
    }


def draw(results):
    caption = "Validation loss by learning rate, means and extremes of five seeds; the ticks are each seed's optimum."
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


def apart(curves: dict[str, optima.Curve]) -> list[float]:
    """By seed, how far the optima of the widths lie apart."""
    return [float(np.ptp(found)) for found in zip(*map(optima.by_seed, curves.values()), strict=True)]


def falls(curves: dict[str, optima.Curve]) -> list[float]:
    """By seed, how far the optimum falls from the least width to the greatest."""
    first, *_, last = map(optima.by_seed, curves.values())
    return differences(first, last)
