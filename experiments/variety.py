"""Do more kinds of instructions help with kinds that were never trained?

A GPT of three layers, pre-trained on the source code of the standard library, is tuned on 3, 6 or 9 families of
instructions about words, always as many examples; three other families are held out. Wei et al. (2021, FLAN, figures 6 and
7) find that scores on unseen tasks rise with the number of task clusters at 137 billion parameters, and that models of up to
8 billion gain nothing or lose.
"""

from gpt_jax.configs import small
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep

COUNTS, EARLY = (3, 6, 9), 5
SEEN = "all families"
FLAN = "Wei et al. 2021"


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
    arms[SEEN] = {**tuned, "data.source": "instructions()"}
    cut = dict.fromkeys(("train.steps", "train.eval_every", "train.save_every"), EARLY)
    arms |= {f"{name(count)}, cut short": {**arms[name(count)], **cut} for count in (COUNTS[0], COUNTS[-1])}
    return Sweep(c, {"pretrained": {}, **arms}, seeds=(0, 1, 2, 3, 4), baseline=None)


def name(count: int) -> str:
    return f"{count} families"


def analyse(results):
    few, many, early = name(COUNTS[0]), name(COUNTS[-1]), f"after {EARLY} steps"

    def gains(metric: str, arm: str = many, over: str = few) -> list[float]:
        values = results.values(metric)
        return differences(values[arm].values(), values[over].values())

    def cut(metric: str) -> list[float]:
        return gains(metric, f"{many}, cut short", f"{few}, cut short")

    return [
        check_claim(
            "loss on unseen families: 9 - 3 families, nats a token",
            "lower with more",
            gains("valid/loss"),
            most=-0.02,
            source=f"{FLAN}, figure 6",
            reason="lower by more than the hundredths of a nat that part seeds",
            expected=-0.2,
            must_fail={early: cut("valid/loss")},
            must_pass={f"9 families: after training - {early}": gains("valid/loss", over=f"{many}, cut short")},
        ),
        check_claim(
            "share of exact answers to unseen families: 9 - 3 families",
            "no gain in small models",
            gains("valid/exact_match"),
            least=-0.05,
            most=0.05,
            source=f"{FLAN}, figure 7",
            reason="their small models gain nothing or lose a few hundredths; a twentieth either way",
            expected=0.0,
            must_fail={"families that were trained - unseen ones": gains("valid/exact_match", SEEN)},
            must_pass={early: cut("valid/exact_match")},
        ),
    ]
