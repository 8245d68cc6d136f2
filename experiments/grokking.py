"""When does a model that memorises its training examples begin to generalise?

Addition modulo 53 from a part of its table, by one layer of width 128 without norms, whole batches, AdamW with weight decay
1, and initial values that deviate by 1/sqrt(width), as Nanda et al. (2023) do modulo 113, with a table five times as large.
In their curves on half of the table the test loss is under 1 after 744 steps, long after the training loss; on seven tenths
there is no delay, and without weight decay nothing is understood. What is learned are five frequencies. The length and the
parts of the table were chosen on a seed that is not scored.
"""

import math

import numpy as np

from gpt_jax.configs import base
from gpt_jax.plotting import COLOURS, panels
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, finished_runs
from gpt_jax.train.record.metrics import read

P, EVERY, STEPS, FEW = 53, 20, 4000, 5
HALF, UNDECAYED, MOST = "half of the table", "half, without weight decay", "nine tenths"
ARMS = {  # of the table, steps, weight decay
    HALF: (0.5, STEPS, 1.0),
    UNDECAYED: (0.5, STEPS, 0.0),
    MOST: (0.9, 400, 1.0),
}
NANDA = "Nanda et al. 2023, section 5 and the authors' curves"


def sweep():
    c = base.get_config()
    c.model.update(layers=1, width=128, heads=4, context=3, mlp="relu", norm="none", tied=False, bias=["mlp"])
    c.model.init = f"normal(std={c.model.width**-0.5:.4f})"
    c.data.update(source=f"modular_addition(p={P})", tokenizer="none")
    c.optim.update(lr=1e-3, warmup=10, schedule="constant", clip=0.0, optimizer="adamw(b1=0.9, b2=0.98, eps=1e-8)")
    c.train.update(eval_every=EVERY, eval_batches=1, log_every=EVERY, keep_best=False, tensorboard=False)
    c.sample.prompts = ()
    arms = {
        name: {
            "data.valid_fraction": round(1 - fraction, 2),
            "train.batch": int(P * P * (1 - round(1 - fraction, 2))),
            "train.steps": steps,
            "train.save_every": steps,
            "optim.weight_decay": decay,
            "optim.groups": ((".*", {"weight_decay": decay}),),
        }
        for name, (fraction, steps, decay) in ARMS.items()
    }
    return Sweep(c, arms, seeds=(1, 2, 3, 4, 5), baseline=None)


def analyse(results):
    runs = {name: list(results.done(name).values()) for name in ARMS}
    learned, understood = (
        {name: [steps_under_1(run, split) for run in runs[name]] for name in ARMS} for split in ("train", "valid")
    )
    delays = {name: [b / a for a, b in zip(learned[name], understood[name], strict=True)] for name in ARMS}
    end, early = (
        {name: list(found[name].values()) for name in (HALF, UNDECAYED)}
        for found in (results.values(), results.values_at(100))
    )
    chance = [np.log(P)] * len(end[HALF])
    shares = {name: [few(run) for run in runs[name]] for name in (HALF, UNDECAYED)}
    few_alone = float(np.sort(powers(np.cos(2 * np.pi * np.outer(np.arange(P), range(1, FEW + 1)) / P)))[-FEW:].sum())
    return [
        check_claim(
            "half of the table: steps to a test loss under 1 / to a training loss under 1",
            "much later",
            delays[HALF],
            scale="log",
            least=2.0,
            source=NANDA,
            reason="the test loss later at all would be a delay; twice as late is one that is seen",
            expected=4.0,
            must_fail={MOST: delays[MOST]},
            must_pass={"understood at the last step": [STEPS / step for step in learned[HALF]]},
        ),
        check_claim(
            "half of the table: test loss without weight decay - with, at the end, nats",
            "understood with it alone",
            differences(end[UNDECAYED], end[HALF]),
            least=1.0,
            source=NANDA,
            reason="a nat of the four by chance",
            expected=4.0,
            must_fail={"after 100 steps": differences(early[UNDECAYED], early[HALF])},
            must_pass={"chance - with": differences(chance, end[HALF])},
        ),
        check_claim(
            f"half of the table: share of the embedding in its {FEW} largest frequencies",
            "nearly all",
            shares[HALF],
            scale="logit",
            least=0.5,
            source=NANDA,
            reason="most of it, where a fifth would be theirs if all 26 had the same",
            expected=0.9,
            must_fail={UNDECAYED: shares[UNDECAYED]},
            must_pass={"an embedding of five": [min(few_alone, 0.999)] * len(shares[HALF])},
        ),
    ]


def draw(results):
    figure, (left, right) = panels(10, 3.8, 1, 2, sharey=False)
    for colour, name in zip(COLOURS, ARMS, strict=False):
        for i, directory in enumerate(results.done(name).values()):
            for split, dash in (("valid", "-"), ("train", ":")):
                rows = [(row["step"], row[f"{split}/loss"]) for row in read(directory) if f"{split}/loss" in row]
                label = name if split == "valid" and not i else None
                left.plot(*zip(*rows, strict=True), dash, color=colour, linewidth=1, label=label)
    left.set(xscale="log", yscale="log", xlabel="steps", ylabel="loss, nats; dotted: training")
    left.legend(frameon=False, fontsize=8)
    found = powers(embedding(next(iter(results.done(HALF).values()))))
    right.bar(np.arange(1, len(found) + 1), found, color=COLOURS[0], width=0.8)
    right.set(xlabel="frequency", ylabel="share of the embedding's squared norm")
    caption = f"Five seeds of each arm, and the Fourier spectrum of an embedding: {HALF}, the first seed."
    return {"grokking": (figure, caption)}


def steps_under_1(directory, split: str) -> float:
    """The step of the first record under 1 nat; nan where there is none."""
    losses = ((row["step"], row[f"{split}/loss"]) for row in read(directory) if f"{split}/loss" in row)
    return next((step for step, loss in losses if loss < 1), math.nan)


def embedding(directory) -> np.ndarray:
    _, params = finished_runs.opened(directory)
    return np.asarray(params["embed"]["tokens"]["w"], float)[:P]


def powers(w_PD: np.ndarray) -> np.ndarray:
    """The share of each frequency, 1 to (P-1)/2, in the squared norm of the numbers' vectors, their mean left out."""
    power = (np.abs(np.fft.rfft(w_PD, axis=0)[1:]) ** 2).sum(1)
    return power / power.sum()


def few(directory) -> float:
    return float(np.sort(powers(embedding(directory)))[-FEW:].sum())
