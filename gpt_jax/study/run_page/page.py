"""report.html of a run: one file with its pictures inside, to be opened from the disk, printed, or sent."""

import html
import json
from pathlib import Path

from gpt_jax.plotting import save
from gpt_jax.storage import make_folder, write_atomically
from gpt_jax.study.report import markup
from gpt_jax.study.run_page import answers, checks, pictures, sentences, task_figures
from gpt_jax.study.run_page.run_files import RunFiles
from gpt_jax.study.sweep.sweep import shared_settings

NAME = "report.html"
STYLE = """
.state, .look { border-left: 4px solid #0072b2; background: #eef5fa; padding: .5rem .8rem; margin: .6rem 0; }
.look { border-color: #e69f00; background: #fff4e5; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; } dt { color: #5b6770; } dd { margin: 0; }
dd, .words td { overflow-wrap: anywhere; }
.answers td:nth-child(-n+2) { white-space: nowrap; overflow-wrap: normal; }
.answers td:nth-child(n+3) { font-family: ui-monospace, monospace; white-space: pre-wrap; }
.evaluations { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1.2rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; } section { min-width: 0; }
@media (prefers-color-scheme: dark) {
  :root { color-scheme: dark; } body { background: #1a1a1a; color: #e4e6e8; }
  .question, dt, figcaption, .cards td:not(:first-child)::before { color: #a9b2b9; }
  th, td { border-color: #3a4046; } th { border-bottom-color: #6b747b; }
  pre { background: #24282c; } .state { background: #16283a; } .look { background: #33270f; }
  figure svg { filter: invert(.9) hue-rotate(180deg); }  /* white becomes the page's own black, and hues stay */
}
"""
CAPTIONS = {
    "curve": "Lines are training, points validation; the star is the best evaluation.",
    "measures": "Lines are training, points of the same colour validation.",
}


def report(workdir: Path) -> Path:
    """Writes the page of a run, ended or not, and returns its path. Its pictures are in figures/ too, as PNG and SVG.

    Raises:
      UserError: the directory holds no run.
      StorageError: a file of the run is damaged, or the disk refuses.
    """
    run = RunFiles.read(workdir)
    title, tables = workdir.resolve().name, answers.rollouts(workdir)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(sentences.result(run))}</p>",
        f'<p class="state">{html.escape(sentences.state(run))}</p>',
        "<h2>What was trained</h2>",
        "<dl>" + "".join(f"<dt>{a}</dt><dd>{html.escape(b)}</dd>" for a, b in sentences.trained(run)) + "</dl>",
        "<h2>What it reached</h2>",
        *_reached(run),
        *task_figures.judged(workdir),
        "<h2>What it wrote</h2>",
        *answers.written(workdir, tables),
        "<h2>What to look at</h2>",
        *_look(run),
        "<h2>How to go on</h2>",
        *_commands(
            run,
            (*(answer.asked for table in tables.values() for answer in table), *run.config.sample.prompts),
        ),
        _settings(run),
    ]
    write_atomically(workdir / NAME, markup.page(title, parts, STYLE))
    return workdir / NAME


def _reached(run: RunFiles) -> list[str]:
    drawn = {"curve": pictures.main(run), "measures": pictures.small(run)}
    rows = sentences.shown(run)
    parts = [markup.table(rows)] if len(rows) > 1 else ["<p>There is nothing of an evaluation to show.</p>"]
    for name, (figure, alt) in {name: made for name, made in drawn.items() if made}.items():
        svg = save(figure, make_folder(run.workdir / "figures") / name)
        parts.append(markup.figure(svg, CAPTIONS[name], alt))
    return parts if any(drawn.values()) else [*parts, "<p>There are no finite numbers to draw.</p>"]


def _look(run: RunFiles) -> list[str]:
    found, parts = checks.measured(run), []
    rows = [["what is checked", "value", "limit"]]
    for check, value in found:
        number, side = f"{value:.3g}", "at least" if check.below else "at most"
        rows.append([check.what, number, f"{side} {check.limit:g}"])
        if check.beyond(value):
            what = html.escape(f"{check.what[0].upper()}{check.what[1:]}: {number} (limit: {side} {check.limit:g}).")
            why = html.escape(f"{check.why[0].upper()}{check.why[1:]}. What may help: {check.answer}.")
            parts.append(f'<p class="look"><b>{what}</b> {why}</p>')
    parts = parts or [f"<p>None of the {len(found)} numbers that are checked is beyond its limit.</p>"]
    return [*parts, _folded("All numbers that are checked", rows)]


def _commands(run: RunFiles, prompts: tuple[str, ...]) -> list[str]:
    lines = [f"# {purpose}\n{command}" for purpose, command in sentences.commands(run, prompts)]
    return [f"<pre>{html.escape(chr(10).join(lines))}</pre>"]


def _settings(run: RunFiles) -> str:
    """The knobs in which the run differs from configs/base.py."""
    changed = shared_settings(run.config.to_dict()).items()
    rows = [[knob, json.dumps(value), json.dumps(default)] for knob, (default, value) in changed]
    return _folded("All settings that differ from the defaults", [["knob", "of this run", "default (base.py)"], *rows])


def _folded(title: str, rows: list[list[str]]) -> str:
    return f"<details><summary>{html.escape(title)}</summary>{markup.table(rows, 'words cards')}</details>"
