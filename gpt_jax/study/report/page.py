"""report.html: one file with its pictures inside, to be opened from the disk, printed, or sent."""

import html
import json
from collections.abc import Sequence
from pathlib import Path

from gpt_jax.plotting import inline, save
from gpt_jax.storage import read_json, write_atomically
from gpt_jax.study.compare import claims, verdicts
from gpt_jax.study.report import curves, figures, hyperparameters, tables
from gpt_jax.study.sweep.results import SweepResults

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f23; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.question { color: #39424a; }
.wide, .words { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; text-align: right; border-bottom: 1px solid #e3e6e8; white-space: nowrap; }
.words td, .words th { white-space: normal; text-align: left; }
th:first-child, td:first-child, td:last-child, th:last-child { text-align: left; }
th { border-bottom: 2px solid #9aa3a9; }
.better, .pass { color: #0072b2; font-weight: 600; }
.worse, .fail { color: #b34700; font-weight: 600; } .equivalent { color: #00714f; }
figure { margin: 1rem 0; } figure svg { min-width: 44rem; height: auto; } figcaption { color: #5b6770; font-size: .9rem; }
pre { background: #f4f6f7; padding: .8rem; overflow-x: auto; font-size: .82rem; white-space: pre-wrap; }
.running { background: #fff4e5; padding: .5rem .8rem; border-left: 4px solid #e69f00; }
@media print { body { max-width: none; margin: 0; } h2, figure { break-inside: avoid; } details { display: block; } }
"""


def report(workdir: Path) -> Path:
    """Makes the report of a sweep, finished or not, and returns the path of its page.

    Raises:
      UserError: the directory holds no sweep.
    """
    return write(SweepResults.read(workdir))


def write(results: SweepResults) -> Path:
    """report.html, and beside it verdicts.csv, verdicts.tex, runs.csv and the pictures as PNG and SVG."""
    rows = results.comparisons()
    compared, runs = verdicts.table(rows), tables.runs(results)
    folder = results.workdir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("verdicts.csv", tables.to_csv(compared)),
        ("verdicts.tex", tables.to_latex(compared)),
        ("runs.csv", tables.to_csv(runs)),
    ):
        write_atomically(results.workdir / name, text)
    parts = [_head(results), *_findings(results)]
    if rows:
        picture = save(figures.forest(rows, results.metric, results.margin), folder / "differences")
        parts += ["<h2>Against the baseline</h2>", _table(compared, marked=True), _figure(picture, _legend(results))]
    if many := hyperparameters.table(results):
        picture = save(hyperparameters.parallel(many, results.metric), folder / "knobs")
        told = (
            "A line an arm, the darker the better, through the values of its knobs; those that matter most stand first."
        )
        parts += ["<h2>Knobs</h2>", _figure(picture, told)]
    name, found = curves.curves(results)
    if found:
        picture = save(figures.losses(found, name), folder / "losses")
        parts += ["<h2>Along training</h2>", _figure(picture, "Lines are means over seeds, bands their extremes.")]
    parts += ["<h2>Runs</h2>", _table(runs), *_samples(results), *_conditions(results)]
    path = results.workdir / "report.html"
    write_atomically(path, _page(results, parts))
    return path


def _page(results: SweepResults, parts: Sequence[str]) -> str:
    title = html.escape(results.experiment)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _head(results: SweepResults) -> str:
    first, _, rest = results.question.partition("\n")
    states = [results.status(id) for id in results.runs]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in results.notes)
    told = f"<h1>{html.escape(first or results.experiment)}</h1>"
    told += "".join(f'<p class="question">{html.escape(part)}</p>' for part in rest.split("\n\n") if part.strip())
    told += f"<ul>{notes}</ul>" if notes else ""
    gone = "".join(
        f"<li>{html.escape(arm)}: no more runs, {html.escape(why)}</li>" for arm, why in results.dropped().items()
    )
    told += f"<ul>{gone}</ul>" if gone else ""
    if missing := len(states) - states.count("done") - states.count("dropped"):
        failed = "".join(f"<br>{html.escape(name)}: {html.escape(why)}" for name, why in results.failures().items())
        told += f'<p class="running">{missing} of {len(states)} runs are not done; this is of the others.{failed}</p>'
    return told


def _findings(results: SweepResults) -> list[str]:
    """What the experiment's own analysis says, with its pictures."""
    found = claims.read(results.workdir)
    rows = [["claim", "published", "counts as held", "ours [95%]", "verdict"]]
    rows += [[f.claim, f.published, f.allowed, f.ours, f.verdict] for f in found.findings]
    parts = ["<h2>Findings</h2>", _table(rows, marked=True, kind="words")] if found.findings else []
    for name, caption in found.pictures.items():
        parts.append(_figure(inline(results.workdir / "figures" / f"{name}.svg"), caption))
    return parts


def _legend(results: SweepResults) -> str:
    margin = (
        f" The green band is the margin of {results.margin:g}, within which differences do not matter."
        if results.margin
        else ""
    )
    return (
        "Pairs share a seed: batches, and initial values where shapes allow. “Detectable” is the true difference that so "
        "many seeds would find four times in five. Blue: better, orange: worse, green: equivalent, grey: inconclusive."
        + margin
    )


def _table(rows: tables.Rows, marked: bool = False, kind: str = "wide") -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = []
    for row in rows[1:]:
        verdict = f' class="{row[-1].split(";")[0]}"' if marked else ""
        cells = [f"<td>{html.escape(cell)}</td>" for cell in row[:-1]]
        body.append("<tr>" + "".join(cells) + f"<td{verdict}>{html.escape(row[-1])}</td></tr>")
    return f'<div class="{kind}"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _figure(svg: str, caption: str) -> str:
    return f'<figure><div class="wide">{svg}</div><figcaption>{html.escape(caption)}</figcaption></figure>'


def _samples(results: SweepResults) -> list[str]:
    """What the first seed of each arm wrote at its end."""
    parts = []
    for arm in results.arms:
        ids = [id for id, entry in results.runs.items() if arm in entry.arms]
        files = [path for id in ids[:1] for path in sorted((results.directory(id) / "samples").glob("*.txt"))]
        if files:
            text = files[-1].read_text(encoding="utf-8", errors="replace")[:1500]
            parts.append(f"<details><summary>{html.escape(arm)}</summary><pre>{html.escape(text)}</pre></details>")
    return ["<h2>Samples</h2>", *parts] if parts else []


def _conditions(results: SweepResults) -> list[str]:
    files = [read_json(results.directory(id) / "environment.json", missing={}) for id in results.runs]
    starts = [start for file in files for start in file.get("starts", [])[-1:]]
    kinds = {json.dumps(_lasting(start), indent=1, sort_keys=True) for start in starts}
    arms = json.dumps(results.arms, indent=1)
    command = f"python launch.py sweep --config=experiments/{results.experiment} --workdir={results.workdir}"
    return [
        "<h2>Conditions</h2>",
        f"<pre>{html.escape(command)}</pre>",
        f"<details><summary>arms, over the shared settings</summary><pre>{html.escape(arms)}</pre></details>",
        *(f"<details><summary>environment</summary><pre>{html.escape(kind)}</pre></details>" for kind in sorted(kinds)),
    ]


def _lasting(start: dict) -> dict:
    """What does not differ from run to run of one machine."""
    return {name: value for name, value in start.items() if name not in ("time", "argv", "pid")}
