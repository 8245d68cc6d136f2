"""report.html: one file with its figures inside, to be opened from the disk, printed, or sent."""

import html
import json
import shlex
from pathlib import Path

from gpt_jax.plotting import inline, save
from gpt_jax.storage import make_folder, read_json, write_atomically
from gpt_jax.study.compare import claims, verdicts
from gpt_jax.study.compare.verdicts import Rows
from gpt_jax.study.report import curves, figures, hyperparameters, tables
from gpt_jax.study.report.markup import figure, folded, page, table
from gpt_jax.study.sweep import run_rows
from gpt_jax.study.sweep.results import EXPERIMENT, SweepResults


def report(workdir: Path) -> Path:
    """Writes the report of a sweep, finished or not, and returns the path of its page.

    Raises:
      UserError: the directory holds no sweep.
    """
    return write(SweepResults.read(workdir))


def write(results: SweepResults) -> Path:
    """Writes report.html, and beside it verdicts.csv, verdicts.tex, runs.csv and the figures as PNG and SVG."""
    rows = results.comparisons()
    compared = verdicts.table(rows)
    folder = make_folder(results.workdir / "figures")
    for name, text in (
        ("verdicts.csv", run_rows.to_csv(verdicts.values(rows, results.metric))),
        ("verdicts.tex", tables.to_latex(compared)),
        ("runs.csv", run_rows.to_csv(run_rows.rows(results))),
    ):
        write_atomically(results.workdir / name, text)
    parts = [_head(results), *_findings(results)]
    if rows:
        picture = save(
            figures.forest(rows, results.metric, results.margin, results.lower_is_better), folder / "differences"
        )
        parts += [
            "<h2>Against the baseline</h2>",
            _verdicts(compared, "wide verdicts cards"),
            figure(picture, _legend(results)),
        ]
    if many := hyperparameters.table(results):
        picture = save(hyperparameters.parallel(many, results.metric, results.lower_is_better), folder / "knobs")
        caption = "Each line is an arm; darker is better. Knobs are ordered by the share of variance they explain."
        parts += ["<h2>Knobs</h2>", figure(picture, caption)]
    name, found = curves.curves(results)
    if found:
        low = results.lower_is_better or name != results.metric
        picture = save(figures.losses(found, name, low), folder / "losses")
        parts += [
            "<h2>Training curves</h2>",
            figure(picture, "Lines: means over seeds; bands: lowest and highest seed."),
        ]
    parts += [*_settings(results), "<h2>Runs</h2>", table(tables.runs(results)), *_samples(results)]
    parts += _conditions(results)
    path = results.workdir / "report.html"
    write_atomically(path, page(results.experiment, parts))
    return path


def _head(results: SweepResults) -> str:
    first, _, rest = results.question.partition("\n")
    states = [results.status(id) for id in results.runs]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in results.notes)
    text = f"<h1>{html.escape(first or results.experiment)}</h1>"
    text += "".join(f'<p class="question">{html.escape(part)}</p>' for part in rest.split("\n\n") if part.strip())
    text += f"<ul>{notes}</ul>" if notes else ""
    reasons = results.stopped_early().items()
    stopped = "".join(f"<li>{html.escape(arm)}: stopped early, {html.escape(reason)}</li>" for arm, reason in reasons)
    text += f"<ul>{stopped}</ul>" if stopped else ""
    if missing := len(states) - states.count("done") - states.count("stopped early"):
        failed = "".join(f"<br>{html.escape(name)}: {html.escape(why)}" for name, why in results.failures().items())
        text += f'<p class="running">{missing} of {len(states)} runs are not done and not counted here.{failed}</p>'
    return text


def _findings(results: SweepResults) -> list[str]:
    """The claims that the experiment's analyse() checked, and the figures of its draw()."""
    found = claims.read(results.workdir)
    rows = [["claim", "verdict", "ours [95%]", "pass range", "published"]]
    rows += [[f.claim, f.verdict, f.ours, f.allowed, f.published] for f in found.findings]
    parts = ["<h2>Claims</h2>", _verdicts(rows, "verdicts words cards")] if found.findings else []
    for name, caption in found.pictures.items():
        parts.append(figure(inline(results.workdir / "figures" / f"{name}.svg"), caption))
    return parts


def _legend(results: SweepResults) -> str:
    margin = f" The green band is the equivalence margin, ±{results.margin:g}." if results.margin else ""
    return (
        "Runs are paired by seed: the same batches, and the same initial values where shapes allow. “Detectable”: the true "
        "difference found with 80% power at that number of seeds. Blue: better, orange: worse, green: equivalent, grey: "
        "inconclusive." + margin
    )


def _verdicts(rows: Rows, kind: str) -> str:
    """A table whose second column is coloured by the verdict that it begins with."""
    marks = [["", row[1].partition(";")[0], *[""] * (len(row) - 2)] for row in rows[1:]]
    return table(rows, kind, marks)


def _settings(results: SweepResults) -> list[str]:
    """What all arms share, as differences from configs/base.py, and what each arm overrides."""
    shared = [["knob", "shared by all arms", "default (base.py)"]]
    shared += [[knob, json.dumps(value), json.dumps(default)] for knob, (default, value) in results.shared.items()]
    arms = [["arm", "overrides"]]
    for arm, overrides in results.arms.items():
        arms.append([arm, ", ".join(f"{knob} = {json.dumps(value)}" for knob, value in overrides.items()) or "none"])
    parts = ["<h2>Settings</h2>"]
    parts += [table(shared, "words cards")] if len(shared) > 1 else []
    return [*parts, table(arms, "words cards")]


def _samples(results: SweepResults) -> list[str]:
    """Texts sampled at the end of training, of the first seed of each arm."""
    parts = []
    for arm in results.arms:
        ids = [id for id, entry in results.runs.items() if arm in entry.arms]
        files = [path for id in ids[:1] for path in sorted((results.directory(id) / "samples").glob("*.txt"))]
        if files:
            text = files[-1].read_text(encoding="utf-8", errors="replace")[:1500]
            parts.append(folded(arm, text))
    return ["<h2>Samples</h2>", *parts] if parts else []


def _conditions(results: SweepResults) -> list[str]:
    """The command, the experiment file, and where the runs were trained."""
    files = [
        read_json(results.directory(id) / "environment.json", missing={}, fields={"starts": list[dict]})
        for id in results.runs
    ]
    starts = [start for file in files for start in file.get("starts", [])[-1:]]
    environments = {json.dumps(_lasting(start), indent=1, sort_keys=True) for start in starts}
    parts = ["<h2>Conditions</h2>"]
    parts += [f"<pre>{html.escape(shlex.join(results.command))}</pre>"] if results.command else []
    kept = results.workdir / EXPERIMENT
    if kept.exists():
        parts.append(
            folded(f"experiment file {results.experiment}", kept.read_text(encoding="utf-8", errors="replace"))
        )
    return [*parts, *(folded("environment", text) for text in sorted(environments))]


def _lasting(start: dict) -> dict:
    """The part of an environment that is equal for all runs on one machine."""
    return {name: value for name, value in start.items() if name not in ("time", "argv", "pid")}
