"""What a run wrote: a policy's answers at its evaluations side by side, or the samples at its end."""

import html
from pathlib import Path

from gpt_jax.study.compare.verdicts import MISSING, Rows
from gpt_jax.study.report import markup
from gpt_jax.train.rollouts import shown
from gpt_jax.train.rollouts.shown import Answer

MOST = 4000  # characters of samples


def rollouts(workdir: Path) -> dict[int, list[Answer]]:
    """step -> answers, of the first, a middle and the last evaluation that has some."""
    found = {step: answers for step, path in _files(workdir, "rollout-", ".md") if (answers := shown.read(path))}
    steps = list(found)
    return {step: found[step] for step in sorted({steps[0], steps[len(steps) // 2], steps[-1]} if steps else ())}


def written(workdir: Path, tables: dict[int, list[Answer]]) -> list[str]:
    """The parts of the page."""
    if tables:
        return _side_by_side(tables)
    if not (files := _files(workdir, "", ".txt")):
        return ["<p>No samples are kept in this directory.</p>"]
    step, path = files[-1]
    text = path.read_text(encoding="utf-8", errors="replace")
    cut = f"\n… {len(text) - MOST:,} more characters in samples/{path.name}" if len(text) > MOST else ""
    return [f"<p>At step {step:,}:</p><pre>{html.escape(text[:MOST] + cut)}</pre>"]


def _side_by_side(tables: dict[int, list[Answer]]) -> list[str]:
    same, sections = _same_prompts(tables), []
    for step, answers in tables.items():
        rows = [["", "reward", "prompt", "answer"], *([a.kind, a.reward, a.prompt, a.text] for a in answers)]
        sections.append(f"<section><h3>Step {step:,}</h3>{markup.table(rows, 'words answers')}</section>")
    parts = ["<p>Prompts that several evaluations show:</p>", markup.table(same, "words cards")] if same else []
    return [*parts, '<div class="evaluations">', *sections, "</div>"]


def _same_prompts(tables: dict[int, list[Answer]]) -> Rows:
    """A row a prompt that two or more of the tables have, a column a step; empty where there is none."""
    by_prompt: dict[str, dict[int, str]] = {}
    for step, answers in tables.items():
        for answer in answers:
            by_prompt.setdefault(answer.prompt, {}).setdefault(step, f"{answer.text} → {answer.reward}")
    rows = [[p, *(at.get(step, MISSING) for step in tables)] for p, at in by_prompt.items() if len(at) > 1]
    return [["prompt", *(f"step {step:,}: answer → reward" for step in tables)], *rows] if rows else []


def _files(workdir: Path, begin: str, end: str) -> list[tuple[int, Path]]:
    """(step, file) of the samples with such names, in order of steps."""
    steps = (
        (path.name.removeprefix(begin).removesuffix(end), path) for path in (workdir / "samples").glob(f"{begin}*{end}")
    )
    return sorted((int(step), path) for step, path in steps if step.isascii() and step.isdecimal() and len(step) < 19)
