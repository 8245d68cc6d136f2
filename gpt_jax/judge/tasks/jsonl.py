"""Problems of a user's own files, with a JSON object a line."""

from typing import Any

from gpt_jax.errors import UserError
from gpt_jax.judge.tasks import WHERE, Asking, Task, asking
from gpt_jax.judge.tasks.examples import of_rows
from gpt_jax.registry import options, register


@register("judge.tasks", "jsonl", typical="jsonl(path='problems.jsonl')", reads=("*.jsonl", "/*.jsonl"))
@options(Asking)
def jsonl(
    *,
    path: str,
    valid: str = "",
    fields: dict[str, str] | None = None,
    names: list[str] | None = None,
    options: bool = False,
    **given: Any,
) -> Task:
    """Exact match and F1 of words of what is written; or the accuracy of what is chosen.

    Args:
      path, valid, fields: as the source jsonl takes them: shots are rows of ``path``, problems are those of ``valid``, or
        rows of ``path`` that are held out.
      names, options: see the task examples.

    Raises:
      UserError: a source is named as well.
    """
    if given.get("source"):
        raise UserError("jsonl with a source", where=WHERE, fix="leave source out, or ask the task examples")
    source = f"jsonl(path={path!r}, valid={valid!r}, fields={fields or {}!r})"
    return of_rows(asking({**given, "source": source}), source, names, options or bool(names))
