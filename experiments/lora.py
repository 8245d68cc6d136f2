"""Does LoRA reach full tuning, and at which learning rate?

A GPT of three layers, pre-trained on the source code of the standard library, learns to follow instructions: all of its
parameters, or LoRA of rank 16 or 1 on all linear layers. Schulman et al. (2025, "LoRA Without Regret") find that LoRA's best
learning rate is about ten times that of full tuning and hardly depends on the rank, and that LoRA ends as low as full tuning
as long as its capacity suffices. The rates go by factors of 2.5; the optimum of each seed is that of a parabola.
"""

import math

from gpt_jax.configs import small
from gpt_jax.study.compare import optima
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep

RATES = {
    "full": (4e-4, 1e-3, 2.5e-3, 6e-3, 1.6e-2),
    "rank 16": (2.5e-3, 6e-3, 1.6e-2, 4e-2, 1e-1),
    "rank 1": (2.5e-3, 6e-3, 1.6e-2, 4e-2, 1e-1),
}
ADAPTERS = {"full": "none", "rank 16": "lora(rank=16, alpha=32)", "rank 1": "lora(rank=1, alpha=32)"}
CLAIM = "Schulman et al. 2025"


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
    return Sweep(c, {"pretrained": {}, **arms}, seeds=(0, 1, 2), baseline=None)


def name(method: str, rate: float) -> str:
    return f"{method}, lr {rate:g}"


def analyse(results):
    found = curves(results)
    best = {method: optima.by_seed(curve) for method, curve in found.items()}
    lowest = {method: [min(losses) for losses in zip(*curve.values(), strict=True)] for method, curve in found.items()}

    def ratio(a, b):
        return [10 ** (x - y) for x, y in zip(best[a], best[b], strict=True)]

    worse = differences(lowest["rank 16"], lowest["full"])
    lost = differences(lowest["rank 1"], lowest["rank 16"])
    return [
        check_claim(
            "best learning rate: rank 16 / full", f"about 10 ({CLAIM})", ratio("rank 16", "full"), least=3, most=30
        ),
        check_claim(
            "best learning rate: rank 1 / rank 16",
            f"about 1 ({CLAIM})",
            ratio("rank 1", "rank 16"),
            least=0.4,
            most=2.5,
        ),
        check_claim(
            "loss at the best rate: rank 16 - full, nats a token", f"0 ({CLAIM})", worse, least=-0.02, most=0.02
        ),
        check_claim("the same: rank 1 - rank 16", f"more than 0, beyond capacity ({CLAIM})", lost, least=0),
    ]


def draw(results):
    caption = "Validation loss by learning rate, means and extremes of three seeds; the ticks are each seed's optimum."
    figure = optima.draw({"": curves(results)}, "log10 of the learning rate", "validation loss, nats per token")
    return {"rates": (figure, caption)}


def curves(results) -> dict[str, optima.Curve]:
    values = results.values()
    return {
        method: {math.log10(rate): [values[name(method, rate)][seed] for seed in results.seeds] for rate in rates}
        for method, rates in RATES.items()
    }
