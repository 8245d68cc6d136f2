"""Problems of any source of examples."""

from typing import Any

from gpt_jax.data.examples import Row
from gpt_jax.errors import UserError
from gpt_jax.judge.problems import Problem, problem_of
from gpt_jax.judge.tasks import WHERE, Asking, Task, asking
from gpt_jax.registry import options, register

WRITTEN, CHOSEN = ("exact", "squad"), ("accuracy",)


@register(
    "judge.tasks",
    "examples",
    examples=("examples(source='preferences', options=True, problems=4)", "examples(source='arithmetic', problems=4)"),
)
@options(Asking)
def examples(*, names: list[str] | None = None, options: bool = False, **given: Any) -> Task:
    """Exact match and F1 of words of what is written; or the accuracy of what is chosen.

    Args:
      names: of classes, in the order of their numbers, for rows of {text, class}.
      options: whether rows have options: {prompt, options, class}, {prompt, chosen, rejected}, or {text, class} with names.

    Raises:
      UserError: no source is named.
    """
    if not given.get("source"):
        raise UserError(
            "examples of no source", where=WHERE, fix="name one: examples(source=\"jsonl(path='problems.jsonl')\")"
        )
    return of_rows(asking(given), given["source"], names, options or bool(names))


def of_rows(how: Asking, source: str, names: list[str] | None, options: bool) -> Task:
    """The task of rows that may have options."""

    def problem(row: Row, place: str) -> Problem:
        found = problem_of(row, place, names or ())
        if bool(found.options) != options:
            raise UserError(
                f"{place}: a row {'without' if options else 'with'} options",
                where=place,
                fix="set options=True where all rows have options, and leave it out where none has",
            )
        return found

    return Task(how, source, CHOSEN if options else WRITTEN, problem)
