"""When does a model that memorises its training examples begin to generalise?

Addition modulo 113 from a part of its table, by one layer of width 128 without norms, whole batches, AdamW with weight
decay 1, and initial values that deviate by 1/sqrt(width) (Nanda et al. 2023); with GPT-2's 0.02 it memorises little.
The curves that they published fall under a test loss of 1 after 744 steps when trained on half of the table and after 2615
on two fifths; on seven tenths there is no delay. What is learned is a sum of a few frequencies: at most eight carry 90% of
the embedding.
"""

import numpy as np

from gpt_jax.configs import base
from gpt_jax.plotting import COLOURS, panels
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep, finished_runs
from gpt_jax.train.record.metrics import read

P, EVERY = 113, 20
FRACTIONS = {0.4: 3000, 0.5: 1500, 0.7: 400}  # of the table -> steps
NANDA = "Nanda et al. 2023, the authors' curves"


def sweep():
    c = base.get_config()
    c.model.update(layers=1, width=128, heads=4, context=3, mlp="relu", norm="none", tied=False, bias=["mlp"])
    c.model.init = f"normal(std={c.model.width**-0.5:.4f})"
    c.data.update(source=f"modular_addition(p={P})", tokenizer="none")
    c.optim.update(
        lr=1e-3,
        warmup=10,
        schedule="constant",
        weight_decay=1.0,
        clip=0.0,
        optimizer="adamw(b1=0.9, b2=0.98, eps=1e-8)",
    )
    c.optim.groups = ((".*", {"weight_decay": 1.0}),)
    c.train.update(eval_every=EVERY, eval_batches=1, log_every=EVERY, keep_best=False, tensorboard=False)
    c.sample.prompts = ()
    arms = {
        name(fraction): {
            "data.valid_fraction": round(1 - fraction, 2),
            "train.batch": int(P * P * (1 - round(1 - fraction, 2))),
            "train.steps": steps,
            "train.save_every": steps,
        }
        for fraction, steps in FRACTIONS.items()
    }
    return Sweep(c, arms, seeds=(0, 1, 2), baseline=None)


def name(fraction: float) -> str:
    return f"{fraction:.0%} of the table"


def analyse(results):
    steps = {fraction: [understood(d) for d in results.done(name(fraction)).values()] for fraction in FRACTIONS}
    later = [np.log(late / early) for late, early in zip(steps[0.4], steps[0.5], strict=True)]
    counts = [frequencies(directory) for directory in results.done(name(0.5)).values()]
    return [
        check_claim(
            "half of the table: steps until the test loss is under 1",
            f"744 ({NANDA})",
            steps[0.5],
            least=372,
            most=1488,
        ),
        check_claim("two fifths: the same", f"2615 ({NANDA})", steps[0.4], least=1308, most=5230),
        check_claim(
            "log(steps of two fifths / steps of half)", f"later, log(2615 / 744) = 1.26 ({NANDA})", later, least=0.0
        ),
        check_claim("seven tenths: the same number of steps", f"no delay, under 323 ({NANDA})", steps[0.7], most=646),
        check_claim(
            "half of the table: frequencies that carry 90% of the embedding", f"at most 8 ({NANDA})", counts, most=8
        ),
    ]


def draw(results):
    figure, (left, right) = panels(10, 3.8, 1, 2, sharey=False)
    for colour, fraction in zip(COLOURS, FRACTIONS, strict=False):
        for i, directory in enumerate(results.done(name(fraction)).values()):
            for split, dash in (("valid", "-"), ("train", ":")):
                rows = [(row["step"], row[f"{split}/loss"]) for row in read(directory) if f"{split}/loss" in row]
                label = name(fraction) if split == "valid" and not i else None
                left.plot(*zip(*rows, strict=True), dash, color=colour, linewidth=1, label=label)
    left.set(xscale="log", yscale="log", xlabel="steps", ylabel="loss (nats); dotted: training")
    left.legend(frameon=False, fontsize=8)
    shares = spectrum(next(iter(results.done(name(0.5)).values())))
    right.bar(np.arange(1, len(shares) + 1), shares, color=COLOURS[0], width=0.8)
    right.set(xlabel="frequency", ylabel="share of the embedding's squared norm")
    return {
        "grokking": (
            figure,
            "Three seeds of each fraction, and the Fourier spectrum of the embedding: half of the table, seed 0.",
        )
    }


def understood(directory) -> float:
    """The step of the first evaluation under 1 nat; infinite if there is none."""
    return next((row["step"] for row in read(directory) if row.get("valid/loss", np.inf) < 1), np.inf)


def spectrum(directory) -> np.ndarray:
    """The share of each frequency, 1 to (P-1)/2, in the squared norm of the numbers' embeddings, their mean left out."""
    _, params = finished_runs.opened(directory)
    w_PD = np.asarray(params["embed"]["tokens"]["w"], float)[:P]
    power = (np.abs(np.fft.rfft(w_PD, axis=0)[1:]) ** 2).sum(1)
    return power / power.sum()


def frequencies(directory) -> int:
    shares = np.sort(spectrum(directory))[::-1]
    return int(np.searchsorted(np.cumsum(shares), 0.9)) + 1
