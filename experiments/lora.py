"""Does LoRA reach full tuning, and at which learning rate?

A GPT of three layers, pre-trained on the source code of the standard library, learns to follow instructions: all of its
parameters, or LoRA of rank 16 or 1 on all linear layers. Schulman et al. (2025, "LoRA Without Regret") find that LoRA's best
learning rate is about ten times that of full tuning and hardly depends on the rank, and that LoRA ends as low as full tuning
as long as its capacity suffices. The rates go by factors of 2.5; the optimum of each seed is that of a parabola.
"""

import math

import numpy as np

from gpt_jax.configs import small
from gpt_jax.study.compare import optima
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import NOISE, Sweep

RATES = {
    "full": (4e-4, 1e-3, 2.5e-3, 6e-3, 1.6e-2),
    "rank 16": (2.5e-3, 6e-3, 1.6e-2, 4e-2, 1e-1),
    "rank 1": (2.5e-3, 6e-3, 1.6e-2, 4e-2, 1e-1),
}
ADAPTERS = {"full": "none", "rank 16": "lora(rank=16, alpha=32)", "rank 1": "lora(rank=1, alpha=32)"}
MIDDLE = "rank 16, lr 0.016"
SCHULMAN = "Schulman et al. 2025, sections 'Methods and results' and 'Setting LoRA hyperparameters'"


def sweep():
    c = small.get_config()
    tuned = {
        "tune.start": "arm:pretrained",
        "data.source": "instructions()",
        "data.tokenizer": "start",
        "optim.schedule": "linear(final=0.0)",
        "optim.warmup": 20,
        "optim.weight_decay": 0.0,
        "train.steps": 200,
        "train.eval_every": 200,
        "train.save_every": 200,
    }
    arms = {
        name(method, rate): {**tuned, "tune.adapter": ADAPTERS[method], "optim.lr": rate}
        for method, rates in RATES.items()
        for rate in rates
    }
    return Sweep(c, {"pretrained": {}, **arms}, seeds=(0, 1, 2, 3, 4), baseline=None, noise=MIDDLE)


def name(method: str, rate: float) -> str:
    return f"{method}, lr {rate:g}"


def analyse(results):
    found = curves(results)
    best = {method: optima.by_seed(curve) for method, curve in found.items()}
    lowest = {method: [min(losses) for losses in zip(*curve.values(), strict=True)] for method, curve in found.items()}

    def ratio(a, b):
        return [10 ** (x - y) for x, y in zip(best[a], best[b], strict=True)]

    def above(a, b):
        return differences(lowest[a], lowest[b])

    slow = [
        first - best for first, best in zip(found["full"][math.log10(RATES["full"][0])], lowest["full"], strict=True)
    ]
    chance = differences(results.values()[NOISE].values(), results.values()[MIDDLE].values())
    tenfold, same = ratio("rank 16", "full"), ratio("rank 1", "rank 16")
    ranges = {"scale": "log", "source": SCHULMAN}
    return [
        check_claim(
            "best learning rate: rank 16 / full",
            "about 10",
            tenfold,
            least=3.0,
            most=30.0,
            reason="a factor of three either way, half of the way to the same rate",
            expected=10.0,
            must_fail={"rank 1 / rank 16": same},
            must_pass={"rank 1 / full": ratio("rank 1", "full")},
            **ranges,
        ),
        check_claim(
            "best learning rate: rank 1 / rank 16",
            "about 1",
            same,
            least=0.4,
            most=2.5,
            reason="one step of the rates that were tried, either way",
            expected=1.0,
            must_fail={"rank 16 / full": tenfold},
            must_pass={"parabolas in one place": [10**x for x in differences(known("rank 16"), known("rank 1"))]},
            **ranges,
        ),
        check_claim(
            "loss at the best rate: rank 16 - full, nats a token",
            "0",
            above("rank 16", "full"),
            least=-0.05,
            most=0.05,
            source=SCHULMAN,
            reason="a twentieth of a nat, as near as two runs of theirs lie in its figures",
            expected=0.0,
            must_fail={"full: at the lowest rate - at the best": slow},
            must_pass={f"{MIDDLE}, from other initial values - the same": chance},
        ),
        check_claim(
            "the same: rank 1 - rank 16",
            "more than 0, beyond capacity",
            above("rank 1", "rank 16"),
            least=0.01,
            source=SCHULMAN,
            reason="more by a hundredth of a nat",
            expected=0.05,
            must_fail={f"{MIDDLE}, from other initial values - the same": chance},
            must_pass={"full: at the lowest rate - at the best": slow},
        ),
    ]


def known(method: str) -> list[float]:
    """The optima of parabolas with noise, whose minima are where two methods' rates overlap."""
    numbers, at = np.random.default_rng(len(method)), [math.log10(rate) for rate in RATES[method]]
    return optima.by_seed({x: [(x - math.log10(1.6e-2)) ** 2 + 0.01 * numbers.normal() for _ in range(5)] for x in at})


def draw(results):
    caption = "Validation loss by learning rate, means and extremes of five seeds; the ticks are each seed's optimum."
    figure = optima.draw({"": curves(results)}, "log10 of the learning rate", "validation loss, nats per token")
    return {"rates": (figure, caption)}


def curves(results) -> dict[str, optima.Curve]:
    values = results.values()
    return {
        method: {math.log10(rate): [values[name(method, rate)][seed] for seed in results.seeds] for rate in rates}
        for method, rates in RATES.items()
    }
