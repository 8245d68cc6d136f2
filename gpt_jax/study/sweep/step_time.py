"""How long a step of each arm takes, by short runs of its own: what arms of equal time are matched by."""

from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.sweep import Sweep
from gpt_jax.train.record.metrics import read_summary

FOLDER = "clock"  # of a sweep, where these runs are kept; so steps are timed once
STEPS = 60
SHORT = {
    "train.steps": STEPS,
    "train.eval_every": STEPS,
    "train.save_every": STEPS,
    "train.eval_batches": 1,
    "train.keep_best": False,
    "train.log_every": 5,
    "optim.warmup": 0,
    "sample.prompts": [],
}


def timed(sweep: Sweep) -> Sweep:
    """The sweep of these runs: every arm with one seed, side by side as those of the sweep itself."""
    arms = {arm: {**overrides, **SHORT} for arm, overrides in sweep.arms.items()}
    return Sweep(sweep.base, arms, sweep.seeds[:1], None, question="How long does a step of each arm take?")


def step_seconds(results: SweepResults) -> dict[str, float]:
    """Of every arm: the tokens of a step by the median rate of its run. Compilation, evaluation and saving are left out."""
    found = {}
    for arm in results.arms:
        (directory,) = results.done(arm).values()
        summary = read_summary(directory)
        found[arm] = summary["tokens"] / STEPS / summary["tokens_per_second"]
    return found
