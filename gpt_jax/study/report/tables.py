"""The findings of a sweep as rows: for the page, as CSV, and as LaTeX."""

import csv
import io
import math

from gpt_jax.study.compare.verdicts import Rows, number
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.train.record.metrics import read_summary


def runs(results: SweepResults) -> Rows:
    """A row a run: every seed's value, what it cost, and where it is."""
    table = [["arm", "seed", results.metric, "steps", "tokens", "FLOPs", "seconds", "status", "run"]]
    for id, entry in results.runs.items():
        summary = read_summary(results.directory(id))
        final = summary.get("final", {})
        cells = [number(final.get(results.metric, math.nan), ".5f"), str(summary.get("steps", 0))]
        cells += [
            number(summary.get(name, math.nan), form)
            for name, form in (("tokens", ".4g"), ("flops", ".3g"), ("seconds", ".1f"))
        ]
        table.append([" = ".join(entry.arms), str(entry.seed), *cells, results.status(id), id])
    return table


def to_csv(rows: Rows) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def to_latex(rows: Rows) -> str:
    """A tabular for the package booktabs."""
    head, *body = ([_escaped(cell) for cell in row] for row in rows)
    lines = [r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    return "\n".join([*lines, *(" & ".join(row) + r" \\" for row in body), r"\bottomrule", r"\end{tabular}"]) + "\n"


def _escaped(cell: str) -> str:
    for mark in "&%_#$":
        cell = cell.replace(mark, "\\" + mark)
    return cell.replace("–", "--")
