"""Which optimizer needs the fewest steps, when all are tuned alike?

AdamW, Lion, Adafactor and Muon on two layers of width 64, on the source code of Python's standard library, with a constant
rate after warmup that is tuned for each. Counted are the steps to the lowest loss that both it and AdamW reach. Muon is said
to need 0.58 (Jordan et al. 2024, against an AdamW that may be undertuned) to 0.7 times (Wen et al. 2025, "Fantastic
pretraining optimizers and where to find them", figure 1) the steps of AdamW, Lion and Adafactor about as many. No arm has
converged.
"""

import functools
from pathlib import Path

import numpy as np

from gpt_jax.configs import tiny
from gpt_jax.plotting import COLOURS, panels
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import NOISE, Sweep
from gpt_jax.train.record.metrics import read

STEPS, EVERY = 300, 10
ADAMW, LION, ADAFACTOR, MUON = "AdamW", "Lion", "Adafactor", "Muon"
AGAIN, TWICE = "AdamW from other initial values", "AdamW with twice the batch"
ARMS = {
    ADAMW: {},
    LION: {"optim.optimizer": "lion(b1=0.9, b2=0.99)", "optim.lr": 1e-3},
    ADAFACTOR: {"optim.optimizer": "adafactor"},
    MUON: {"optim.optimizer": "muon"},
    TWICE: {"train.batch": 32},
}
WEN = "Wen et al. 2025, figure 1"


def sweep():
    c = tiny.get_config()
    c.optim.update(lr=8e-3, warmup=50, schedule="constant", weight_decay=0.0)
    c.train.update(steps=STEPS, eval_every=EVERY, save_every=STEPS, eval_batches=10)
    c.train.update(on_nonfinite="skip")
    return Sweep(c, ARMS, seeds=(0, 1, 2, 3, 4, 5), baseline=None, tune="optim.lr", noise=ADAMW)


def analyse(results):
    def ratios(arm: str) -> list[float]:
        pairs = zip(results.done(arm).values(), results.done(ADAMW).values(), strict=True)
        return [ratio(curve(run), curve(adamw)) for run, adamw in pairs]

    fewer = check_claim(
        "Muon: steps / AdamW's steps, to the same loss",
        "0.58 to 0.7",
        ratios(MUON),
        scale="log",
        most=0.85,
        source=WEN,
        reason="half of the saving that the more careful source finds",
        expected=0.7,
        must_fail={AGAIN: ratios(NOISE)},
        must_pass={TWICE: ratios(TWICE)},
    )
    alike = [
        check_claim(
            f"{arm}: the same",
            "about 1",
            ratios(arm),
            scale="log",
            least=0.8,
            most=1.25,
            source=WEN,
            reason="a fifth either way: the optimizers without matrices lie within 1.2 of each other there",
            expected=1.0,
            must_fail={TWICE: ratios(TWICE)},
            must_pass={AGAIN: ratios(NOISE)},
        )
        for arm in (LION, ADAFACTOR)
    ]
    return [fewer, *alike]


def draw(results):
    figure, axis = panels(7, 4.2)
    for colour, arm in zip(COLOURS, (ADAMW, LION, ADAFACTOR, MUON), strict=False):
        losses_SC = np.array([curve(run) for run in results.done(arm).values()])
        at = np.arange(1, losses_SC.shape[1] + 1) * EVERY
        axis.plot(at, losses_SC.mean(0), color=colour, label=f"{arm}, lr {results.arms[arm]['optim.lr']:g}")
        axis.fill_between(at, losses_SC.min(0), losses_SC.max(0), color=colour, alpha=0.15, linewidth=0)
    axis.set(xlabel="steps", ylabel="validation loss, nats per token", xlim=(0, STEPS))
    axis.legend(frameon=False, fontsize=9)
    return {"curves": (figure, "Each optimizer at its best learning rate: means and extremes of six seeds.")}


@functools.cache
def curve(directory: Path) -> np.ndarray:
    return np.array([row["valid/loss"] for row in read(directory) if "valid/loss" in row])


def ratio(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of the steps to the lowest loss that both reach."""
    common = max(np.nanmin(ours), np.nanmin(theirs))
    return reached(ours, common) / reached(theirs, common)


def reached(losses: np.ndarray, target: float) -> float:
    """The step at which a loss is first reached, between evaluations by a straight line."""
    i = int(np.argmax(losses <= target))
    share = 1.0 if i == 0 else (losses[i - 1] - target) / (losses[i - 1] - losses[i])
    return EVERY * (i + share)
