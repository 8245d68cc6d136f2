"""Does learning from verified answers make a model solve more, or only sooner?

A GPT of three layers has learned the numbers game of Countdown a little, and then learns from rewards of right answers, by
GRPO. Both models draw 128 answers to each of 100 puzzles that neither was trained on. Yue et al. (2025, "Does reinforcement
learning really incentivize reasoning capacity in LLMs beyond the base model?", figure 2) find that with one answer a puzzle
the tuned model solves more, and that with many the model before does: pass@k crosses.
"""

import functools
from pathlib import Path

import numpy as np

from gpt_jax.configs import small
from gpt_jax.plotting import COLOURS, panels
from gpt_jax.study.compare import best_of_n
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, answers

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
PUZZLES = 100
TASK = "countdown(numbers=2, largest=12)"
BEFORE, AFTER = "before", "after"
YUE = "Yue et al. 2025, figure 2"


def sweep():
    arms = {"pretrained": {}, BEFORE: small.tuned(40, {"data.source": TASK, "optim.lr": 4e-3})}
    own = {"tune.start": f"arm:{BEFORE}", "data.source": TASK, "tune.objective": "grpo(kl=0.0)", "optim.lr": 5e-4}
    own |= {"tune.reward": "countdown", "train.batch": 256, "sample.rows": 256, "sample.max_new_tokens": 8}
    arms[AFTER] = small.rewarded(80, own)
    return Sweep(small.get_config(), arms, seeds=(0, 1, 2, 3, 4), baseline=None, metric="valid/loss")


def analyse(results):
    before, after = (np.array([curve(run) for run in results.done(arm).values()]) for arm in (BEFORE, AFTER))
    halves = np.array([[curve(run, half) for half in (0, 1)] for run in results.done(BEFORE).values()])
    unchanged = halves[:, 1] - halves[:, 0]
    return [
        check_claim(
            "pass@1: after - before",
            "more",
            differences(after[:, 0], before[:, 0]),
            least=0.0,
            source=YUE,
            reason="more by any amount",
            expected=0.1,
            must_fail={"before: one half of its answers - the other": unchanged[:, 0]},
            must_pass={"before: pass@2 - pass@1, which grows": differences(before[:, 1], before[:, 0])},
        ),
        check_claim(
            f"pass@{SIZES[-1]}: after - before",
            "less",
            differences(after[:, -1], before[:, -1]),
            most=0.0,
            source=YUE,
            reason="less by any amount: the curves cross",
            expected=-0.05,
            must_fail={f"pass@{SIZES[-2]} of one half of the answers before - of the other": unchanged[:, -1]},
            must_pass={f"before: pass@1 - pass@{SIZES[-1]}, which grows": differences(before[:, 0], before[:, -1])},
        ),
    ]


@functools.cache
def solved(run: Path) -> np.ndarray:
    """Whether each answer to each puzzle is right, [puzzles, answers]."""
    knobs = {"data__source": TASK, "tune__reward": "countdown", "sample__temperature": 1.0}
    knobs |= {"sample__max_new_tokens": 8, "sample__rows": 256, "train__eval_batches": 0}
    return answers.drawn(run, prompts=PUZZLES, samples=SIZES[-1], **knobs)["reward"]


def curve(run: Path, half: int | None = None) -> list[float]:
    """pass@k for every k, of all answers or of one half."""
    solved_PS = solved(run) if half is None else solved(run)[:, half::2]
    correct_P, drawn = solved_PS.sum(1).astype(int), solved_PS.shape[1]
    return [float(best_of_n.pass_at(k, correct_P, drawn).mean()) for k in SIZES if k <= drawn]


def draw(results):
    figure, axes = panels(5.4, 3.8)
    for arm, colour in zip((BEFORE, AFTER), COLOURS, strict=False):
        for seed, run in enumerate(results.done(arm).values()):
            axes.semilogx(SIZES, curve(run), base=2, color=colour, linewidth=1.2, label=None if seed else arm)
    axes.set(xlabel="answers a puzzle, k", ylabel="pass@k")
    axes.legend(frameon=False, fontsize=9)
    return {"pass": (figure, f"The share of {PUZZLES} puzzles that one of k answers solves; a line a seed.")}
