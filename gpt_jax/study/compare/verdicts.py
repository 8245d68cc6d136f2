"""The comparisons of a sweep, to be read: as rows of a table, and as lines of text."""

import math
from collections.abc import Sequence

from gpt_jax.study.compare import statistics
from gpt_jax.study.compare.statistics import Comparison

Rows = list[list[str]]


def table(rows: Sequence[Comparison]) -> Rows:
    """A head and a row an arm."""
    head = ["arm", "seeds", "difference", "95% interval", "p (Holm)", "sign test", "effect", "detectable", "verdict"]
    rows_of = [head]
    for row in rows:
        interval = f"[{row.interval.low:+.4f}, {row.interval.high:+.4f}]" if row.interval else "–"
        settle = f"; {row.seeds_needed} seeds would settle it" if _open(row) else ""
        numbers = [number(row.p_adjusted, ".3f"), number(row.p_sign, ".3f"), number(row.effect, "+.2f")]
        told = row.verdict + settle
        rows_of.append(
            [row.arm, str(len(row.seeds)), f"{row.mean:+.4f}", interval, *numbers, number(row.detectable, ".2g"), told]
        )
    return rows_of


def lines(rows: Sequence[Comparison], metric: str) -> str:
    """A line an arm, under a head."""
    width = max(len(row.arm) for row in rows)
    lines = [f"{metric} against {rows[0].baseline} (lower is better), paired by seed"]
    for row in rows:
        interval = f"[{row.interval.low:+.4f}, {row.interval.high:+.4f}]" if row.interval else "one seed"
        finds = f"  {len(row.seeds)} seeds find {row.detectable:.2g}" if row.interval else ""
        unclear = row.verdict == statistics.INCONCLUSIVE and row.seeds_needed
        settle = f"; {row.seeds_needed} would settle this" if unclear else ""
        lines.append(
            f"  {row.arm:<{width}}  {row.mean:+.4f} {interval:<20} p {row.p_adjusted:.3f}  {row.verdict}{finds}{settle}"
        )
    return "\n".join(lines)


def number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "–"


def _open(row: Comparison) -> bool:
    return row.verdict == "inconclusive" and row.seeds_needed is not None and row.seeds_needed > len(row.seeds)
