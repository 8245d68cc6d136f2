"""Do more kinds of instructions help with kinds that were never trained?

A GPT of three layers, pre-trained on the source code of the standard library, is tuned on 3, 6 or 9 families of
instructions about words, always as many examples; three other families are held out. Wei et al. (2021, FLAN, figures 6 and
7) find that scores on unseen tasks rise with the number of task clusters at 137 billion parameters, and that models of up to
8 billion gain nothing or lose.
"""

from gpt_jax.configs import small
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, finished_runs

COUNTS = (3, 6, 9)
LARGE = "rises with the number of tasks (Wei et al. 2021, figure 6)"
SMALL = "no gain in small models (Wei et al. 2021, figure 7)"
METRICS = ("valid/loss", "valid/exact_match")


def sweep():
    c = small.get_config()
    tuned = {
        "tune.start": "arm:pretrained",
        "data.tokenizer": "start",
        "optim.lr": 2.5e-3,
        "optim.schedule": "linear(final=0.0)",
        "optim.warmup": 20,
        "optim.weight_decay": 0.0,
        "train.steps": 300,
        "train.eval_every": 300,
        "train.save_every": 300,
        "train.eval_batches": 0,
    }
    arms = {
        name(count): {**tuned, "data.source": f"instructions(held='families', trained={count})"} for count in COUNTS
    }
    return Sweep(c, {"pretrained": {}, **arms}, seeds=(0, 1, 2, 3, 4), baseline=None)


def name(count: int) -> str:
    return f"{count} families"


def analyse(results):
    few, _, many = ([finished_runs.finals(results, name(count), metric) for metric in METRICS] for count in COUNTS)
    loss, exact = (differences(a, b) for a, b in zip(many, few, strict=True))
    return [
        check_claim("loss on unseen families: 9 - 3 families, nats a token", LARGE, loss, most=0),
        check_claim("exact match on unseen families: 9 - 3 families", SMALL, exact, most=0.02),
    ]
