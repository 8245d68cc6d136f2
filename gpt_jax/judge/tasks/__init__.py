"""What a model is asked: one file per task, each a function ``name(**arguments) -> Task``.

Every task takes the arguments of ``Asking`` beside its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from gpt_jax.data.examples import Row
from gpt_jax.errors import UserError
from gpt_jax.judge.problems import Problem, problem_of
from gpt_jax.judge.verifiers import Verifier
from gpt_jax.limits import Factor, Limits, Natural, Or, Seed, Texts

KIND, WHERE = "judge.tasks", "tasks"
SCORES = ("raw", "bytes", "unconditional")
Some = Annotated[int, Limits(1, 2**20), Or(0, "all")]


@dataclass(frozen=True)
class Asking:
    """How problems are asked.

    Attributes:
      source: of the rows, a call of data.sources; empty = the run's own source of the task's kind, where it has one, else
        that source without arguments.
      problems: held-out rows that are asked, drawn with the seed; 0 = all.
      shots: training rows that stand before a problem, with their answers, drawn with the seed.
      each: whether every problem has shots of its own; else all have the same, in the same order.
      delimiter: text between shots, where these and the problem are one text; empty = turns of a dialogue, as the run's
        template writes them.
      gap: text between a prompt and its answer, with a delimiter.
      score: what options are compared by. raw: log-probability · bytes: the same by byte of UTF-8 · unconditional: less the
        option's own after an empty prompt (Brown et al. 2020, section 2.4).
      samples: answers that are written to each problem.
      temperature: of them; 0 = the likeliest token.
      max_new_tokens: of an answer; 0 = twice those of the longest right answer.
      metrics: further ones, calls of judge.metrics.
      seed: of what is drawn.
    """

    source: str = ""
    problems: Some = 200
    shots: Natural = 0
    each: bool = False
    delimiter: str = ""
    gap: str = ""
    score: str = "raw"
    samples: Texts = 1
    temperature: Factor = 0.0
    max_new_tokens: Natural = 0
    metrics: tuple[str, ...] | list[str] = ()
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise UserError(f"score = {self.score!r}", where=WHERE, allowed=", ".join(SCORES))
        if self.samples > 1 and not self.temperature:
            raise UserError(
                f"{self.samples} answers of the likeliest tokens are the same",
                where=WHERE,
                fix="temperature=0.8, for example, draws them",
            )
        if self.gap and not self.delimiter:
            raise UserError("gap without a delimiter", where=WHERE, fix="add delimiter, such as delimiter='\\n\\n'")


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
      asking: how problems are asked.
      source: where rows come from, if neither the user nor the run says so.
      metrics: calls of judge.metrics; the first is the task's main one.
      problem: (row, its place) -> the problem.
      verify: which answers are right; None: those that are one of the problem's answers, blanks around them aside.
      vote: of a text, what it says.
    """

    asking: Asking
    source: str
    metrics: tuple[str, ...]
    problem: Callable[[Row, str], Problem] = problem_of
    verify: Verifier | None = None
    vote: Callable[[str], str] = field(default=str.strip)

    @property
    def measured(self) -> tuple[str, ...]:
        """All metrics, the user's own last."""
        return tuple(dict.fromkeys((*self.metrics, *self.asking.metrics)))


def grouped(name: str) -> Callable[[Row, str], Problem]:
    """``problem_of``, whose figures are also reported for each value of a field of the rows."""

    def problem(row: Row, place: str) -> Problem:
        return replace(problem_of(row, place), group=f"{name}={row[name]}" if name in row else "")

    return problem


def asking(given: dict[str, Any], **defaults: Any) -> Asking:
    """What a task's user gives over the task's own defaults."""
    return Asking(**{**defaults, **given})
