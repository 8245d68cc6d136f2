"""What to look at in a run: numbers beyond a limit, why they matter, and the knobs that answer them.

"At the end" is the mean over the last tenth of the records that have the metric, "at first" that over the first tenth.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from gpt_jax.study.run_page.run_files import RunFiles


@dataclass(frozen=True)
class Check:
    """A number of a run and its limit.

    Attributes:
      what: the number, in words.
      measure: None where the run has no such number.
      why: what it means beyond the limit.
      answer: the knobs that change it.
      below: whether it is to be looked at below its limit, and not above.
    """

    what: str
    measure: Callable[[RunFiles], float | None]
    limit: float
    why: str
    answer: str
    below: bool = False

    def beyond(self, value: float) -> bool:
        return value < self.limit if self.below else value > self.limit


def measured(run: RunFiles) -> list[tuple[Check, float]]:
    """All checks whose numbers the run has."""
    found = [(check, check.measure(run)) for check in CHECKS]
    return [(check, value) for check, value in found if value is not None]


def at_end(run: RunFiles, name: str) -> float | None:
    return run.at_end(name)


def not_finite(run: RunFiles) -> float | None:
    """How many values in metrics.jsonl are no finite numbers."""
    return sum(not math.isfinite(value) for record in run.records for value in record.values()) if run.records else None


def skipped(run: RunFiles) -> float | None:
    """Updates of the whole run that were left out."""
    return max(run.values("train/skipped"), default=None)


def above_lowest(run: RunFiles) -> float | None:
    """By how much the last validation loss is above the lowest, as a share of that. Policies have no such loss."""
    losses = run.values("valid/loss")
    return losses[-1] / min(losses) - 1 if len(losses) > 1 and min(losses) > 0 else None


def gain_lost(run: RunFiles) -> float | None:
    """The share of the gain in validation reward, from the first evaluation to the best, that the last one has not."""
    rewards = run.values("valid/reward")
    gain = max(rewards) - rewards[0] if rewards else 0
    return (max(rewards) - rewards[-1]) / gain if gain > 0 else None


def longer_for_nothing(run: RunFiles) -> float | None:
    """Tokens of an answer at the end over those at first, where the reward has not risen."""
    (length, longer), (worth, more) = (
        (run.at_first(f"train/{name}"), run.at_end(f"train/{name}")) for name in ("length", "reward")
    )
    if length is None or longer is None or worth is None or more is None:
        return None
    return longer / max(length, 1) if more <= worth else None


def chosen_fell(run: RunFiles) -> float | None:
    """Nats by which the log-probability of chosen completions fell, from the first evaluation to the last."""
    values = run.values("valid/chosen_log_prob")
    return values[0] - values[-1] if len(values) > 1 else None


def _end(name: str) -> Callable[[RunFiles], float | None]:
    return functools.partial(at_end, name=name)


CHECKS = (
    Check(
        "values in metrics.jsonl that are not finite",
        not_finite,
        0,
        "a loss or gradient has left the range of its numbers; pictures leave them out",
        "a lower optim.lr or optim.clip, model.dtype=float32",
    ),
    Check(
        "updates that were skipped",
        skipped,
        0,
        "their loss or gradient was not finite, and they changed nothing",
        "a lower optim.lr or optim.clip",
    ),
    Check(
        "last validation loss above the lowest, as a share of it",
        above_lowest,
        0.01,
        "since its best step the model has been learning what holds of its training data alone (overfitting)",
        "the best checkpoint; fewer train.steps, more model.dropout or optim.weight_decay, more data",
    ),
    Check(
        "share of the gained validation reward that was lost again",
        gain_lost,
        0.5,
        "the policy was better before",
        "the best checkpoint; a lower optim.lr, more kl in tune.objective",
    ),
    Check(
        "entropy at the end, nats a token",
        _end("train/entropy"),
        0.1,
        "the policy is sure of what it writes: little is left to explore",
        "entropy or kl in tune.objective, a lower optim.lr, a higher sample.temperature",
        below=True,
    ),
    Check(
        "share of groups whose answers are all worth the same, at the end",
        _end("train/dead_groups"),
        0.5,
        "they have no gradient: most of what is written teaches nothing",
        "more tune.samples, other prompts in data.source, resample in tune.objective",
    ),
    Check(
        "divergence from the reference at the end, nats a completion",
        _end("train/kl"),
        50,
        "the policy writes what its reference hardly would: a reward may be exploited, not earned",
        "more kl in tune.objective, a lower optim.lr, fewer train.steps",
    ),
    Check(
        "length of answers at the end over that at first, while the reward did not rise",
        longer_for_nothing,
        1.5,
        "answers grow and are worth no more for it",
        "mean='constant' in tune.objective, length or overlong in tune.reward",
    ),
    Check(
        "gap of the decoder's log-probabilities to training's at the end, nats a token",
        _end("train/sampler_gap"),
        1e-3,
        "answers are drawn from another distribution than the one that learns from them",
        "model.dtype=float32, sample.cache=model, sample.weights=model",
    ),
    Check(
        "share of answers left out of the loss at the end",
        _end("train/left_out"),
        0.1,
        "they have no reward, or were cut: they cost time and teach nothing",
        "a tune.reward that judges every answer, more sample.max_new_tokens, mask_cut in tune.objective",
    ),
    Check(
        "share of answers that the policy ended itself, at the end",
        _end("train/ended"),
        0.5,
        "most answers are cut before their end, and rewarded for what is there",
        "more sample.max_new_tokens, ended or overlong in tune.reward",
        below=True,
    ),
    Check(
        "nats that chosen completions lost on validation",
        chosen_fell,
        1.0,
        "the margin grows while the wanted answers become less likely too",
        "a lower optim.lr, a higher beta in tune.objective, orpo",
    ),
)
