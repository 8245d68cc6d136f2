"""Published claims checked against measurements: values with intervals, and the range in which a claim passes."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax.errors import StorageError
from gpt_jax.plotting import save
from gpt_jax.storage import make_folder, read_json, write_json
from gpt_jax.study.compare.statistics import ALPHA, INCONCLUSIVE, Interval, t_interval

NAME = "findings.json"
PASS, FAIL = "pass", "fail"


@dataclasses.dataclass(frozen=True)
class ClaimResult:
    """One claim and the measurement that checks it.

    Args:
      claim: the claim, in words that name the quantity.
      published: the published value and its source.
      mean, low, high: of the values, one a seed, with Student's 95% interval; nan where there are too few.
      least, most: the range in which the claim passes.
      seeds: number of values, or of runs of a fit; ``missing`` of them are not finite.
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
        text = f"{self.mean:.4g}"
        text += f" [{self.low:.4g}, {self.high:.4g}]" if math.isfinite(self.low) else ""
        return text + (f", {self.missing} of {self.seeds} seeds without a value" if self.missing else "")

    @property
    def allowed(self) -> str:
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"{self.least:.4g} to {self.most:.4g}"
        return f"at most {self.most:.4g}" if math.isfinite(self.most) else f"at least {self.least:.4g}"


def differences(ours: Iterable[float], theirs: Iterable[float]) -> list[float]:
    """ours - theirs, of values in the same order of seeds."""
    return [a - b for a, b in zip(ours, theirs, strict=True)]


def check_claim(
    claim: str, published: str, values: Iterable[float], *, least: float = -math.inf, most: float = math.inf
) -> ClaimResult:
    """Checks values of one quantity, one a seed, against the range in which a claim passes."""
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
    """Checks a value with a known interval, such as a coefficient fitted to ``count`` runs."""
    low, high = (interval.low, interval.high) if interval else (math.nan, math.nan)
    verdict = INCONCLUSIVE
    if least <= low and high <= most:
        verdict = PASS
    elif high < least or most < low:
        verdict = FAIL
    return ClaimResult(claim, published, value, low, high, least, most, count, 0, verdict)


@dataclasses.dataclass(frozen=True)
class ClaimResults:
    """What findings.json holds: the checked claims, and file name in figures/ -> caption."""

    findings: tuple[ClaimResult, ...] = ()
    pictures: Mapping[str, str] = dataclasses.field(default_factory=dict)


def write(workdir: Path, claims: Iterable[ClaimResult], figures: Mapping[str, tuple[Any, str]]) -> ClaimResults:
    """Writes the checked claims of a complete sweep, and its ``figures``: file name -> (figure, caption)."""
    directory = workdir / "figures"
    make_folder(directory)
    for name, (figure, _) in figures.items():
        save(figure, directory / name)
    made = ClaimResults(tuple(claims), {name: caption for name, (_, caption) in figures.items()})
    write_json(workdir / NAME, dataclasses.asdict(made))
    return made


def read(workdir: Path) -> ClaimResults:
    """What ``write`` kept; empty where a sweep has no analysis or is not complete."""
    fields = {"findings": list[dict], "pictures": dict[str, str]}
    kept = read_json(workdir / NAME, missing={"findings": [], "pictures": {}}, fields=fields)
    try:
        return ClaimResults(tuple(ClaimResult(**values) for values in kept["findings"]), kept["pictures"])
    except (KeyError, TypeError) as error:
        raise StorageError(f"{NAME} is damaged: {error}", where=str(workdir / NAME), fix="remove it") from error


def describe(results: ClaimResults) -> str:
    """A line a claim."""
    return "\n".join(
        f"{found.verdict:<12}  {found.claim}: {found.ours} (published: {found.published}; pass range: {found.allowed})"
        for found in results.findings
    )
