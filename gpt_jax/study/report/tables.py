"""The tables of a report: its runs, rounded for the page, and any table as LaTeX."""

from gpt_jax.study.compare.verdicts import MISSING, Rows, number
from gpt_jax.study.sweep import run_rows
from gpt_jax.study.sweep.results import SweepResults


def runs(results: SweepResults) -> Rows:
    """A head and a row a run, rounded."""
    metric = "loss" if results.metric == run_rows.LOSS else results.metric
    forms = {metric: ".5f", "params": ",.0f", "steps": ",.0f", "tokens": ".4g", "flops": ".3g"}
    forms |= {"training_seconds": ".1f", "seconds": ".1f"}
    heads = [results.metric, "params", "steps", "tokens", "FLOPs", "training seconds", "total seconds"]
    table = [["arm", "seed", "status", *heads, "run"]]
    for row in run_rows.rows(results):
        numbers = [number(row[key], form) for key, form in forms.items()]
        table.append([row["arm"], str(row["seed"]), row["status"], *numbers, row["run"]])
    return table


def to_latex(rows: Rows) -> str:
    """A tabular for the package booktabs."""
    head, *body = ([_escaped(cell) for cell in row] for row in rows)
    lines = [r"\begin{tabular}{ll" + "r" * (len(head) - 2) + "}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    return "\n".join([*lines, *(" & ".join(row) + r" \\" for row in body), r"\bottomrule", r"\end{tabular}"]) + "\n"


def _escaped(cell: str) -> str:
    for mark in "&%_#$":
        cell = cell.replace(mark, "\\" + mark)
    return cell.replace(MISSING, "--")
