"""Does learning from rewards forget less than learning from answers?

A GPT of three layers, pre-trained on the source code of the standard library, has learned the numbers game of Countdown a
little. It learns it better from rewards of right answers, by GRPO, or from more answers. Afterwards it is evaluated on
held-out source code again. Shenfeld et al. (2025, "RL's razor") find that at the same accuracy on the new task learning from
rewards forgets less of what was there, as it stays nearer to the policy before.
"""

import functools
from pathlib import Path

import numpy as np

from gpt_jax.configs import small
from gpt_jax.plotting import COLOURS, panels
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep, answers, finished_runs

TASK = "countdown(numbers=2, largest=12)"
ANSWERS = (5, 10, 15, 20, 30, 50)  # steps
STEADY = "20 steps"
SHENFELD = "Shenfeld et al. 2025, figure 2 and section 4"
TEXT = {"data__source": "python_stdlib()", "data__pack": "concat", "train__eval_batches": 40, "train__batch": 16}
TEXT |= {"tune__objective": "lm", "tune__start": ""}


def sweep():
    arms = {"pretrained": {}, "before": small.tuned(40, {"data.source": TASK, "optim.lr": 4e-3})}
    start = {"tune.start": "arm:before", "data.source": TASK}
    own = {"tune.objective": "grpo(kl=0.0)", "tune.reward": "countdown", "train.batch": 256, "optim.lr": 5e-4}
    own |= {"sample.rows": 256, "sample.max_new_tokens": 8}
    arms["rewards"] = small.rewarded(80, {**start, **own})
    for steps in ANSWERS:
        arms[f"{steps} steps"] = small.tuned(steps, {**start, "optim.lr": 4e-3})
    return Sweep(small.get_config(), arms, seeds=(0, 1, 2, 3, 4), baseline=None, metric="valid/loss")


def analyse(results):
    def lower(arm: str, measure: int) -> list[float]:
        """How much less an arm has of a measure than answers, as accurate; of answers, others than it."""
        found = []
        for seed in results.seeds:
            ours = measured(results, arm, seed)
            others = [measured(results, f"{steps} steps", seed) for steps in ANSWERS if f"{steps} steps" != arm]
            found.append(ours[measure] - at(ours[0], others, measure))
        return found

    def rises(measure: int) -> list[float]:
        last = f"{ANSWERS[-1]} steps"
        return [measured(results, "before", s)[measure] - measured(results, last, s)[measure] for s in results.seeds]

    return [
        check_claim(
            "loss of source code at the same accuracy: rewards - answers, nats a token",
            "less",
            lower("rewards", 1),
            most=-0.02,
            source=SHENFELD,
            reason="less by two hundredths of a nat, above what straight lines between arms may be wrong by",
            expected=-0.1,
            must_fail={f"{STEADY} of answers - others": lower(STEADY, 1)},
            must_pass={f"before - after {ANSWERS[-1]} steps of answers": rises(1)},
        ),
        check_claim(
            "divergence from before, the same, nats an answer",
            "less",
            lower("rewards", 2),
            most=-0.1,
            source=SHENFELD,
            reason="less by a tenth of a nat, for the same reason",
            expected=-0.5,
            must_fail={f"{STEADY} of answers - others": lower(STEADY, 2)},
            must_pass={f"before - after {ANSWERS[-1]} steps of answers": rises(2)},
        ),
    ]


def measured(results, arm: str, seed: int) -> tuple[float, float, float]:
    """Accuracy, loss of source code, and divergence from before."""
    return _measured(results.done(arm)[seed], results.done("before")[seed])


@functools.cache
def _measured(run: Path, before: Path) -> tuple[float, float, float]:
    knobs = {"data__source": TASK, "tune__reward": "countdown", "sample__temperature": 1.0}
    knobs |= {"sample__max_new_tokens": 8, "sample__rows": 256, "train__eval_batches": 0, "train__batch": 256}
    found = answers.measured(run, before, **knobs)
    return found["reward"], finished_runs.loss(run, **TEXT), found["kl"]


def at(accuracy: float, others: list[tuple[float, float, float]], measure: int) -> float:
    """A measure of those that learned from answers where they are as accurate, by straight lines; nan beyond."""
    reached = np.maximum.accumulate([found[0] for found in others])
    return float(np.interp(accuracy, reached, [found[measure] for found in others], left=np.nan, right=np.nan))


def draw(results):
    figure, axes = panels(5.4, 3.8)
    for (label, arms), colour in zip(
        {"from rewards": ["before", "rewards"], "from answers": ["before", *(f"{n} steps" for n in ANSWERS)]}.items(),
        COLOURS,
        strict=False,
    ):
        found_SAM = np.array([[measured(results, arm, seed) for arm in arms] for seed in results.seeds])
        for number, line in enumerate(found_SAM):
            axes.plot(
                line[:, 0], line[:, 1], "o-", color=colour, markersize=3, linewidth=1.0, label=None if number else label
            )
    axes.set(xlabel="puzzles solved", ylabel="loss of source code, nats a token")
    axes.legend(frameon=False, fontsize=9)
    return {"forgetting": (figure, "What was there before, by what was learned since; a line a seed.")}
