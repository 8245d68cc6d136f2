"""Published claims checked against measurements: values with intervals, and the range in which a claim passes.

The rule, for all claims of an experiment together: a claim passes where its mean lies in the range, and fails where it does
not, if the test that it lies at the range's end is rejected; else it is inconclusive. The tests are two-sided, and Holm's
adjustment over the experiment's claims keeps the chance of any wrong verdict at 5%. A claim that its controls do not bear
out is inconclusive too. docs/protocol.md says why.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gpt_jax.errors import StorageError
from gpt_jax.plotting import save
from gpt_jax.storage import make_folder, read_json, write_json
from gpt_jax.study.compare import ranges
from gpt_jax.study.compare.ranges import Range
from gpt_jax.study.compare.statistics import ALPHA, INCONCLUSIVE, Interval, holm

NAME = "findings.json"
PASS, FAIL = "pass", "fail"


@dataclasses.dataclass(frozen=True)
class Control:
    """What the same measurement says of models about which the answer is known.

    Args:
      name: such as "untrained".
      wanted: pass; or fail, where it may not pass.
      values: of the claim's quantity.
      mean, verdict: as of a claim that is alone.
    """

    name: str
    wanted: str
    values: tuple[float, ...]
    mean: float = math.nan
    verdict: str = INCONCLUSIVE

    @property
    def good(self) -> bool:
        return (self.verdict == PASS) == (self.wanted == PASS)


@dataclasses.dataclass(frozen=True)
class ClaimResult:
    """One claim and the measurement that checks it.

    Args:
      claim: the claim, in words that name the quantity.
      published: the published value, in words.
      mean, low, high: of the values, with their 95% interval, made on ``scale``; nan where there are too few.
      least, most: the range in which the claim passes.
      seeds: number of values, or of runs of a fit; ``missing`` of them are not finite.
      verdict: by the rule of this module.
      source: the paper, and its table, figure, equation or section.
      reason: why the range follows from what is published.
      values: one a seed; empty where the interval is given.
      scale: of ``scales``.
      expected: the value that the claim states, or the least that would matter; None: not said.
      power: the probability of a verdict at this number of seeds, if that is the true value, at Holm's first step: 5%
        divided by the number of the experiment's claims.
      p, p_holm: of the test that decides, by itself and adjusted over the experiment's claims.
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
    source: str = ""
    reason: str = ""
    values: tuple[float, ...] = ()
    scale: str = "plain"
    expected: float | None = None
    power: float | None = None
    p: float = 1.0
    p_holm: float = 1.0
    controls: tuple[Control, ...] = ()

    @property
    def range(self) -> Range:
        return Range(self.least, self.most, self.scale)

    @property
    def ours(self) -> str:
        if not self.seeds:
            return "no value"
        text = f"{self.mean:.4g}"
        text += f" [{self.low:.4g}, {self.high:.4g}]" if math.isfinite(self.low) else ""
        return text + (f", {self.missing} of {self.seeds} seeds without a value" if self.missing else "")

    @property
    def allowed(self) -> str:
        return self.range.words

    @property
    def faulty(self) -> tuple[str, ...]:
        """The controls that do not bear the claim out, and how."""
        return tuple(f"{one.name}: {one.verdict}" for one in self.controls if not one.good)


def differences(ours: Iterable[float], theirs: Iterable[float]) -> list[float]:
    """ours - theirs, of values in the same order of seeds."""
    return [a - b for a, b in zip(ours, theirs, strict=True)]


def check_claim(
    claim: str,
    published: str,
    values: Iterable[float],
    *,
    least: float = -math.inf,
    most: float = math.inf,
    scale: str = "plain",
    must_fail: Mapping[str, Iterable[float]] | None = None,
    must_pass: Mapping[str, Iterable[float]] | None = None,
    **stated: Any,
) -> ClaimResult:
    """Checks values of one quantity, one a seed, against the range in which a claim passes.

    Args:
      must_fail, must_pass: controls, name -> values of the same quantity.
      stated: ``source``, ``reason`` and ``expected`` of ``ClaimResult``.

    Raises:
      UserError: a value that the scale has no place for.
    """
    found = tuple(map(float, values))
    controls = [
        Control(name, wanted, tuple(map(float, given)))
        for wanted, many in ((FAIL, must_fail), (PASS, must_pass))
        for name, given in (many or {}).items()
    ]
    nothing = math.nan, math.nan, math.nan
    stated |= {"values": found, "scale": scale, "controls": tuple(controls)}
    return _alone(ClaimResult(claim, published, *nothing, least, most, len(found), 0, INCONCLUSIVE, **stated))


def check_estimate(
    claim: str,
    published: str,
    value: float,
    interval: Interval | None,
    count: int,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    **stated: Any,
) -> ClaimResult:
    """Checks a value with a known interval, such as a coefficient fitted to ``count`` runs.

    Args:
      stated: ``source``, ``reason``, ``expected`` and ``controls`` of ``ClaimResult``.
    """
    low, high = (interval.low, interval.high) if interval else (math.nan, math.nan)
    return _alone(ClaimResult(claim, published, value, low, high, least, most, count, 0, INCONCLUSIVE, **stated))


def judged(claims: Iterable[ClaimResult]) -> tuple[ClaimResult, ...]:
    """All claims of an experiment, worked out from their values, with their verdicts."""
    claims = tuple(claims)
    alone = [_alone(claim, len(claims)) for claim in claims]
    adjusted = holm([claim.p for claim in alone])
    return tuple(
        dataclasses.replace(claim, p_holm=p, verdict=_verdict(claim, p))
        for claim, p in zip(alone, adjusted, strict=True)
    )


def seeds_needed(claim: ClaimResult, count: int) -> int | None:
    """Seeds for a verdict with a probability of 80%, if the mean is the true value, in an experiment of ``count`` claims;
    None where no number up to 1000 is enough."""
    return ranges.needed(claim.values, claim.range, ALPHA / max(count, 1), claim.claim)


def _alone(claim: ClaimResult, count: int = 1) -> ClaimResult:
    """The claim as if it were the experiment's only one, with the power that it has as the first of ``count``."""
    if claim.values:
        found = ranges.measured(claim.values, claim.range, claim.claim)
    else:
        found = ranges.estimated(claim.mean, claim.low, claim.high, claim.range)
    claim = dataclasses.replace(claim, **dataclasses.asdict(found), p_holm=found.p)
    if claim.expected is not None and claim.values:
        chance = ranges.chance(claim.values, claim.range, claim.expected, ALPHA / count, claim.claim)
        claim = dataclasses.replace(claim, power=chance)
    claim = dataclasses.replace(claim, controls=tuple(_control(claim, control) for control in claim.controls))
    return dataclasses.replace(claim, verdict=_verdict(claim, found.p))


def _control(claim: ClaimResult, control: Control) -> Control:
    found = ranges.measured(control.values, claim.range, f"{claim.claim}, {control.name}")
    verdict = _side(found.mean, claim.range) if found.p < ALPHA else INCONCLUSIVE
    return dataclasses.replace(control, mean=found.mean, verdict=verdict)


def _verdict(claim: ClaimResult, p: float) -> str:
    return _side(claim.mean, claim.range) if p < ALPHA and not claim.faulty else INCONCLUSIVE


def _side(mean: float, allowed: Range) -> str:
    return PASS if mean in allowed else FAIL


@dataclasses.dataclass(frozen=True)
class ClaimResults:
    """What findings.json holds: the checked claims, and file name in figures/ -> caption."""

    findings: tuple[ClaimResult, ...] = ()
    pictures: Mapping[str, str] = dataclasses.field(default_factory=dict)


def write(workdir: Path, claims: Iterable[ClaimResult], figures: Mapping[str, tuple[Any, str]]) -> ClaimResults:
    """Judges the claims of a complete sweep, and writes them and its ``figures``: file name -> (figure, caption)."""
    directory = workdir / "figures"
    make_folder(directory)
    for name, (figure, _) in figures.items():
        save(figure, directory / name)
    made = ClaimResults(judged(claims), {name: caption for name, (_, caption) in figures.items()})
    write_json(workdir / NAME, dataclasses.asdict(made))
    return made


def read(workdir: Path) -> ClaimResults:
    """What ``write`` kept; empty where a sweep has no analysis or is not complete."""
    fields = {"findings": list[dict], "pictures": dict[str, str]}
    kept = read_json(workdir / NAME, missing={"findings": [], "pictures": {}}, fields=fields)
    try:
        return ClaimResults(tuple(map(from_json, kept["findings"])), kept["pictures"])
    except (KeyError, TypeError) as error:
        raise StorageError(f"{NAME} is damaged: {error}", where=str(workdir / NAME), fix="remove it") from error


def from_json(row: Mapping[str, Any]) -> ClaimResult:
    """A claim as JSON has it.

    Raises:
      TypeError: it lacks a field, or has one more.
    """
    controls = [Control(**{**one, "values": tuple(one["values"])}) for one in row.get("controls", ())]
    return ClaimResult(**{**row, "values": tuple(row.get("values", ())), "controls": tuple(controls)})


def describe(results: ClaimResults) -> str:
    """A line a claim, and one for each control that does not bear it out."""
    lines = []
    for found in results.findings:
        words = f"{found.claim}: {found.ours} (published: {found.published}; pass range: {found.allowed})"
        lines.append(f"{found.verdict:<12}  {words}")
        lines += [f"{'':<12}  its control {fault}" for fault in found.faulty]
    return "\n".join(lines)
