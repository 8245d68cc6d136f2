"""Comparisons with a baseline for a reader: a rounded table, lines of text; and for programs: rows of plain values."""

import math
from collections.abc import Sequence
from typing import Any

from gpt_jax.study.compare.statistics import INCONCLUSIVE, Comparison

Rows = list[list[str]]
MISSING = "–"


def table(rows: Sequence[Comparison]) -> Rows:
    """A head and a row an arm, rounded."""
    head = [
        "arm",
        "verdict",
        "difference",
        "95% interval",
        "seeds",
        "p (Holm)",
        "sign test",
        "effect size",
        "detectable",
    ]
    cells = [head]
    for row in rows:
        interval = f"[{row.interval.low:+.4f}, {row.interval.high:+.4f}]" if row.interval else MISSING
        tests = [number(row.p_adjusted, ".3f"), number(row.p_sign, ".3f"), number(row.effect, "+.2f")]
        size = [f"{row.mean:+.4f}", interval, str(len(row.seeds))]
        cells.append([row.arm, row.verdict + _seeds_needed(row), *size, *tests, number(row.detectable, ".2g")])
    return cells


def lines(rows: Sequence[Comparison], metric: str, lower_is_better: bool = True) -> str:
    """A line an arm, under a head."""
    width = max(len(row.arm) for row in rows)
    better = "lower" if lower_is_better else "higher"
    text = [f"{metric}, difference from {rows[0].baseline} ({better} is better), paired by seed"]
    for row in rows:
        interval = f"[{row.interval.low:+.4f}, {row.interval.high:+.4f}]" if row.interval else "one seed"
        power = f"  (detectable with {len(row.seeds)} seeds: {row.detectable:.2g})" if row.interval else ""
        verdict = f"{row.verdict}{_seeds_needed(row)}"
        text.append(f"  {row.arm:<{width}}  {row.mean:+.4f} {interval:<20} p {row.p_adjusted:.3f}  {verdict}{power}")
    return "\n".join(text)


def values(rows: Sequence[Comparison], metric: str) -> list[dict[str, Any]]:
    """A row an arm with all digits, None for what is missing. ``low`` and ``high`` bound ``difference`` at ``level``."""
    return [
        {
            "arm": row.arm,
            "baseline": row.baseline,
            "metric": metric,
            "verdict": row.verdict,
            "seeds": len(row.seeds),
            "excluded_seeds": len(row.excluded),
            "difference": row.mean,
            "low": row.interval.low if row.interval else None,
            "high": row.interval.high if row.interval else None,
            "level": row.interval.level if row.interval else None,
            "deviation": _finite(row.deviation),
            "p": row.p,
            "p_holm": row.p_adjusted,
            "p_sign": row.p_sign,
            "effect_size": _finite(row.effect),
            "detectable": _finite(row.detectable),
            "seeds_needed": row.seeds_needed,
        }
        for row in rows
    ]


def number(value: float | None, form: str) -> str:
    """A number as text; a dash where it is missing or not finite."""
    return MISSING if value is None or not math.isfinite(value) else format(value, form)


def _finite(value: float) -> float | None:
    """None for a statistic that one seed does not have."""
    return value if math.isfinite(value) else None


def _seeds_needed(row: Comparison) -> str:
    """The seeds that an inconclusive difference needs, as an addition to its verdict; else empty."""
    more = row.verdict == INCONCLUSIVE and row.seeds_needed is not None and row.seeds_needed > len(row.seeds)
    return f"; 80% power needs {row.seeds_needed} seeds" if more else ""
