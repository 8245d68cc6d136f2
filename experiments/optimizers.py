"""Which optimizer needs the fewest steps, when all are tuned alike?

AdamW, Lion, Adafactor and Muon on four layers of width 128, each with five learning rates apart by factors of three, a
constant rate after warmup, three seeds. Of each, the rate of the lowest mean loss counts, and the steps to the lowest loss
that both it and AdamW reach. Muon is said to need 0.58 (Jordan et al. 2024, against an AdamW that may be undertuned) to 0.7
times (Wen et al. 2025) the steps of AdamW.
"""

import numpy as np

from gpt_jax.configs import quickstart
from gpt_jax.plotting import COLOURS, panels
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep
from gpt_jax.train.record.metrics import read

STEPS, EVERY = 300, 20
OPTIMIZERS = {
    "AdamW": ("adamw(b1=0.9, b2=0.95, eps=1e-8)", (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    "Lion": ("lion(b1=0.9, b2=0.99)", (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)),
    "Adafactor": ("adafactor", (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),
    "Muon": ("muon", (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),
}


def sweep():
    c = quickstart.get_config()
    c.model.update(width=128, heads=4, context=64)
    c.optim.update(warmup=20, schedule="constant", weight_decay=0.0)
    c.train.update(
        steps=STEPS,
        batch=16,
        eval_every=EVERY,
        save_every=STEPS,
        eval_batches=30,
        on_nonfinite="skip",
        tensorboard=False,
    )
    c.sample.prompts = ()
    arms = {
        name(optimizer, rate): {"optim.optimizer": call, "optim.lr": rate}
        for optimizer, (call, rates) in OPTIMIZERS.items()
        for rate in rates
    }
    return Sweep(c, arms, seeds=(0, 1, 2), baseline=None)


def name(optimizer: str, rate: float) -> str:
    return f"{optimizer}, lr {rate:g}"


def analyse(results):
    curves = {optimizer: best(results, optimizer)[1] for optimizer in OPTIMIZERS}
    published = {"Muon": "0.58 to 0.7 (Jordan et al. 2024; Wen et al. 2025)"}
    return [
        check_claim(
            f"{optimizer}: steps / AdamW's steps, to the same loss",
            published.get(optimizer, "about as many (Wen et al. 2025)"),
            [ratio(ours, adam) for ours, adam in zip(curves[optimizer], curves["AdamW"], strict=True)],
            **({"most": 0.85} if optimizer == "Muon" else {"least": 0.7, "most": 1.0}),
        )
        for optimizer in list(OPTIMIZERS)[1:]
    ]


def draw(results):
    figure, axis = panels(7, 4.2)
    for colour, optimizer in zip(COLOURS, OPTIMIZERS, strict=False):
        rate, losses_SC = best(results, optimizer)
        at = np.arange(1, losses_SC.shape[1] + 1) * EVERY
        axis.plot(at, losses_SC.mean(0), color=colour, label=f"{optimizer}, lr {rate:g}")
        axis.fill_between(at, losses_SC.min(0), losses_SC.max(0), color=colour, alpha=0.15, linewidth=0)
    axis.set(xlabel="steps", ylabel="validation loss, nats per token", xlim=(0, STEPS))
    axis.legend(frameon=False, fontsize=9)
    return {"curves": (figure, "Each optimizer at its best learning rate: means and extremes of three seeds.")}


def best(results, optimizer: str) -> tuple[float, np.ndarray]:
    """The learning rate of the lowest mean loss at the end, and its validation losses [seeds, evaluations]."""
    rates = OPTIMIZERS[optimizer][1]
    curves = {rate: np.array([curve(d) for d in results.done(name(optimizer, rate)).values()]) for rate in rates}
    rate = min(rates, key=lambda rate: curves[rate][:, -1].mean())
    return rate, curves[rate]


def curve(directory) -> list[float]:
    return [row["valid/loss"] for row in read(directory) if "valid/loss" in row]


def ratio(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of the steps to the lowest loss that both reach."""
    common = max(np.nanmin(ours), np.nanmin(theirs))
    return reached(ours, common) / reached(theirs, common)


def reached(losses: np.ndarray, target: float) -> float:
    """The step at which a loss is first reached, between evaluations by a straight line."""
    i = int(np.argmax(losses <= target))
    share = 1.0 if i == 0 else (losses[i - 1] - target) / (losses[i - 1] - losses[i])
    return EVERY * (i + share)
