"""The page of tasks: figures, and right and wrong answers side by side."""

import html
import json
from collections.abc import Sequence

from gpt_jax.judge.problems import Answered
from gpt_jax.study.compare.verdicts import Rows
from gpt_jax.study.report import markup
from gpt_jax.study.tasks.result import Result

SHOWN = 20  # answers of a column
STYLE = """
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1.2rem; }
.sides section { min-width: 0; } h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
.said td { font-family: ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  :root { color-scheme: dark; } body { background: #1a1a1a; color: #e4e6e8; }
  th, td { border-color: #3a4046; } pre { background: #24282c; } .question { color: #a9b2b9; }
}
"""


def page(results: Sequence[Result], names: Sequence[str], figures: Rows) -> str:
    """The page of tasks that one model or two were asked.

    Args:
      names: of the models.
      figures: the table of all.
    """
    title = f"Tasks: {' and '.join(names)}"
    parts = [f"<h1>{html.escape(title)}</h1>", markup.table(figures)]
    for result in results:
        parts += [f"<h2>{html.escape(result.opened.call)}</h2>", f"<p>{html.escape(_asked(result))}</p>"]
        parts += [markup.folded("Details", json.dumps(result.details, indent=1, ensure_ascii=False))] * bool(
            result.details
        )
        parts += ['<div class="sides">', *_sides(result, names), "</div>"]
    return markup.page(title, parts, STYLE)


def _asked(result: Result) -> str:
    how, opened = result.opened.task.asking, result.opened
    shots = f"{how.shots} shots{' for each' if how.each else ', the same for all'}" if how.shots else "no shots"
    left = f"; {result.left_out} more do not fit into the context and are left out" if result.left_out else ""
    return f"{len(result.answers.numbers)} held-out problems of {opened.source}, {shots}, seed {how.seed}{left}."


def _sides(result: Result, names: Sequence[str]) -> list[str]:
    """A section for what is right and what is wrong; of two models, for every way in which they can agree."""
    rows: list[tuple[Answered, ...]] = [(one,) for one in result.answers.answered]
    titles: dict[tuple[bool, ...], str] = {(True,): "Right", (False,): "Wrong"}
    if result.other is not None:
        rows = [*zip(result.answers.answered, result.other.answered, strict=True)]
        titles = {
            (True, False): f"Right: {names[0]} alone",
            (False, True): f"Right: {names[1]} alone",
            (True, True): "Both are right",
            (False, False): "Both are wrong",
        }
    sections = []
    for key, title in titles.items():
        found = [row for row in rows if tuple(one.correct[0] == 1 for one in row) == key]
        head = ["prompt", "right answer", *(names if len(names) > 1 else ["answer"])]
        table = [head, *(_row(row) for row in found[:SHOWN])]
        more = f", {SHOWN} of them" if len(found) > SHOWN else ""
        shown = markup.table(table, "words cards said") if found else ""
        sections.append(f"<section><h3>{html.escape(title)}: {len(found)}{more}</h3>{shown}</section>")
    return sections


def _row(row: Sequence[Answered]) -> list[str]:
    problem = row[0].problem
    prompt = problem.prompt if isinstance(problem.prompt, str) else _dialogue(problem.prompt)
    return [prompt, " / ".join(problem.answers), *(one.texts[0] for one in row)]


def _dialogue(messages: Sequence) -> str:
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)
