"""Seconds a step of each arm, measured by short runs: what matching arms by time needs."""

from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.sweep import Sweep
from gpt_jax.train.record.metrics import read_summary

FOLDER = "clock"  # of the sweep directory, where these runs are kept, so that steps are measured once
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
    """The sweep of the short runs: every arm with one seed, side by side as in the sweep itself."""
    arms = {arm: {**overrides, **SHORT} for arm, overrides in sweep.arms.items()}
    return Sweep(sweep.base, arms, sweep.seeds[:1], None, question="How long does a step of each arm take?")


def step_seconds(results: SweepResults) -> dict[str, float]:
    """arm -> tokens of a step / median tokens a second of its run. Compilation, evaluation and saving are left out."""
    found = {}
    for arm in results.arms:
        (directory,) = results.done(arm).values()
        summary = read_summary(directory)
        found[arm] = summary["tokens"] / STEPS / summary["tokens_per_second"]
    return found
