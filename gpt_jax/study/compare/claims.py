"""What an experiment found of published claims: figures with intervals, each held against what its claim allows."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax.plotting import save
from gpt_jax.storage import read_json, write_json
from gpt_jax.study.compare.statistics import ALPHA, INCONCLUSIVE, Interval, t_interval

NAME = "findings.json"
PASS, FAIL = "pass", "fail"


@dataclasses.dataclass(frozen=True)
class ClaimResult:
    """One claim and what was measured of it.

    Args:
      claim: what is said to hold, in words that name the quantity.
      published: the figure and its source.
      mean, low, high: of the values, one a seed, with Student's 95% interval; nan where there are too few.
      least, most: the range of values that the claim allows.
      seeds: how many values, or runs of a fit, there were; ``missing`` of them are not finite.
      verdict: pass where the whole interval lies in the range, fail where all of it lies outside, else inconclusive.
    """

    claim: str
    published: str
    mean: float
    low: float
    high: float
    least: float
    most: float
    seeds: int
    missing: int
    verdict: str

    @property
    def ours(self) -> str:
        if not self.seeds:
            return "no value"
        told = f"{self.mean:.4g}"
        told += f" [{self.low:.4g}, {self.high:.4g}]" if math.isfinite(self.low) else ""
        return told + (f", {self.missing} of {self.seeds} seeds without a value" if self.missing else "")

    @property
    def allowed(self) -> str:
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"{self.least:.4g} to {self.most:.4g}"
        return f"at most {self.most:.4g}" if math.isfinite(self.most) else f"at least {self.least:.4g}"


def check_claim(
    claim: str, published: str, values: Iterable[float], *, least: float = -math.inf, most: float = math.inf
) -> ClaimResult:
    """Values of one quantity, one a seed, against the range that a claim allows."""
    found = [float(value) for value in values]
    finite = [value for value in found if math.isfinite(value)]
    interval = t_interval(finite, 1 - ALPHA)
    mean = float(np.mean(finite)) if finite else math.nan
    made = check_estimate(claim, published, mean, interval, len(found), least=least, most=most)
    missing = len(found) - len(finite)
    return dataclasses.replace(made, missing=missing, verdict=INCONCLUSIVE) if missing else made


def check_estimate(
    claim: str,
    published: str,
    value: float,
    interval: Interval | None,
    count: int,
    *,
    least: float = -math.inf,
    most: float = math.inf,
) -> ClaimResult:
    """A value whose interval is known, such as a fit's coefficient, of ``count`` runs."""
    low, high = (interval.low, interval.high) if interval else (math.nan, math.nan)
    verdict = INCONCLUSIVE
    if least <= low and high <= most:
        verdict = PASS
    elif high < least or most < low:
        verdict = FAIL
    return ClaimResult(claim, published, value, low, high, least, most, count, 0, verdict)


@dataclasses.dataclass(frozen=True)
class ClaimResults:
    """What findings.json holds: findings, and the captions of the pictures in figures/ by file name."""

    findings: tuple[ClaimResult, ...] = ()
    pictures: Mapping[str, str] = dataclasses.field(default_factory=dict)


def write(workdir: Path, claims: Iterable[ClaimResult], figures: Mapping[str, tuple[Any, str]]) -> ClaimResults:
    """Keeps what an experiment found of a sweep that is done: ``figures`` by file name, each with its caption."""
    directory = workdir / "figures"
    directory.mkdir(parents=True, exist_ok=True)
    for name, (figure, _) in figures.items():
        save(figure, directory / name)
    made = ClaimResults(tuple(claims), {name: caption for name, (_, caption) in figures.items()})
    write_json(workdir / NAME, dataclasses.asdict(made))
    return made


def read(workdir: Path) -> ClaimResults:
    """What ``conclude`` kept; empty where a sweep has no analysis or is not done."""
    kept = read_json(workdir / NAME, missing={"findings": [], "pictures": {}})
    return ClaimResults(tuple(ClaimResult(**values) for values in kept["findings"]), kept["pictures"])


def describe(results: ClaimResults) -> str:
    return "\n".join(
        f"{found.verdict:<12}  {found.claim}: {found.ours} (claim: {found.published}; counts as held: {found.allowed})"
        for found in results.findings
    )
