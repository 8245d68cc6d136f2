"""Kept results of experiments: one JSON file each, and the table of all of them."""

import dataclasses
import math
import platform
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt_jax.storage import read_json, write_json
from gpt_jax.study.compare import claims, protocol
from gpt_jax.study.compare.claims import FAIL, PASS, ClaimResult
from gpt_jax.study.compare.statistics import INCONCLUSIVE
from gpt_jax.study.report.provenance import lacking, provenance, tuning_seconds
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.train.record.metrics import read_summary

KINDS = (PASS, FAIL, INCONCLUSIVE)
COLUMNS = ("claim", "published", "pass range", "ours [95%]", "n", "power", "p (Holm)", "controls", "verdict")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"
PINNED = ("jax", "jaxlib", "flax", "optax", "numpy")


@dataclasses.dataclass(frozen=True)
class Result:
    """The kept result of a complete sweep.

    Args:
      name: of the experiment's file, without its suffix.
      question: its docstring.
      values: arm -> seed -> the sweep's metric, or null where it is not finite.
      verdicts: arm -> its comparison with the baseline, in a sentence.
      seconds: summed over runs, those that a knob was tuned by too.
      pictures: file name -> caption, of the figures beside the table.
      record: see ``provenance``.
    """

    name: str
    question: str
    metric: str
    baseline: str | None
    values: Mapping[str, Mapping[str, float | None]]
    verdicts: Mapping[str, str]
    findings: Sequence[ClaimResult]
    runs: int
    seconds: float
    made_with: Mapping[str, str]
    pictures: Mapping[str, str]
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.question.partition("\n")[0]

    @property
    def command(self) -> str:
        return f"make reproduce ARGS={self.name}"


def result(results: SweepResults) -> Result:
    """The result of a complete sweep."""
    from importlib.metadata import version

    checked = claims.read(results.workdir)
    summaries = [read_summary(results.directory(id)) for id in results.runs]
    values = {
        arm: {str(seed): value if math.isfinite(value) else None for seed, value in row.items()}
        for arm, row in results.values().items()
    }
    return Result(
        Path(results.experiment).stem,
        results.question,
        results.metric,
        results.baseline,
        values,
        {row.arm: row.words for row in results.comparisons()},
        checked.findings,
        len(results.runs),
        sum(summary["seconds"] for summary in summaries if summary) + tuning_seconds(results),
        {
            "python": platform.python_version(),
            "machine": platform.machine(),
            **{name: version(name) for name in PINNED},
        },
        {
            f"{Path(results.experiment).stem}-{name}": caption
            for name, caption in _pictures(results, checked.pictures).items()
        },
        provenance(results),
    )


def _pictures(results: SweepResults, own: Mapping[str, str]) -> dict[str, str]:
    """The experiment's own figures, and the report's figure of differences from the baseline: file name -> caption."""
    if results.baseline is None or len(results.arms) == 1:
        return dict(own)
    caption = f"{results.metric} of each arm against {results.baseline}: means, 95% intervals, and every seed."
    return {"differences": caption, **own}


def keep(results: SweepResults, directory: Path) -> Result:
    """Writes NAME.json and the figures into ``directory``; replaces an earlier result."""
    found = result(results)
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob(f"{found.name}-*.png"):
        old.unlink()
    for name in found.pictures:
        shutil.copy(
            results.workdir / "figures" / f"{name.removeprefix(found.name + '-')}.png", directory / f"{name}.png"
        )
    write_json(directory / f"{found.name}.json", dataclasses.asdict(found))
    return found


def read(path: Path) -> Result | None:
    """A kept result; None where there is none."""
    values: dict[str, Any] = read_json(path, missing={})
    if not values:
        return None
    return Result(**{**values, "findings": tuple(map(claims.from_json, values["findings"]))})


def verify(kept: Result) -> list[str]:
    """What is wrong with a kept result: verdicts that do not follow from its own values, and what it does not state."""
    faults = [f"{kept.name}: no {words}" for words in lacking(kept.record)]
    for found, again in zip(kept.findings, claims.judged(kept.findings), strict=True):
        where = f"{kept.name}, {found.claim}"
        faults += [f"{where}: does not state {words}" for words in protocol.lacking(found)]
        faults += [f"{where}: its control {words}" for words in again.faulty]
        kept_words, words = _derived(found), _derived(again)
        if kept_words != words:
            faults.append(f"{where}: {kept_words}; its values say {words}")
    return faults


def _derived(found: ClaimResult) -> str:
    """What follows from a claim's values, in words."""
    power = "" if found.power is None else f", power {found.power:.0%}"
    return f"{found.verdict}, {found.ours}{power}, p {found.p_holm:.2g}"


def compare(kept: Result | None, now: Result) -> tuple[list[str], bool]:
    """A line a claim: its verdict and value, and those that are kept; and whether all kept verdicts are as before."""
    before = {found.claim: found for found in kept.findings} if kept else {}
    after = {found.claim: found for found in now.findings}
    lines = []
    for claim in {**before, **after}:
        earlier, found = before.get(claim), after.get(claim)
        verdicts = {one.verdict for one in (earlier, found) if one}
        mark = "new" if earlier is None else "as before" if found and len(verdicts) == 1 else "CHANGED"
        said, kept_words = (f"{one.verdict}, {one.ours}" if one else "none" for one in (found, earlier))
        lines.append(f"{mark:<10} {claim}: {said}; kept: {kept_words}")
    return lines, not any(line.startswith("CHANGED") for line in lines)


def _row(found: ClaimResult) -> str:
    source = f"{found.published} ({found.source})" if found.source else found.published
    allowed = f"{found.allowed}: {found.reason}" if found.reason else found.allowed
    power = "" if found.power is None else f"{found.power:.0%} at {found.expected:.3g}"
    controls = "; ".join(f"{one.name}: {one.mean:.3g}, {one.verdict}" for one in found.controls)
    cells = (found.claim, source, allowed, found.ours, str(found.seeds), power, _p(found), controls)
    return f"| {' | '.join(cells)} | {found.verdict} |"


def _p(found: ClaimResult) -> str:
    return f"{found.p_holm:.2g}" if found.controls else ""  # results of before the protocol have none


def _open_claims(one: Result) -> list[str]:
    """For each inconclusive claim what would settle it, and what that would cost."""
    lines = []
    for found in one.findings:
        if found.verdict != INCONCLUSIVE:
            continue
        seeds = claims.seeds_needed(found, len(one.findings))
        if found.faulty:
            lines.append(f"- {found.claim}: open, as its control {', '.join(found.faulty)}.")
        elif not found.values:
            lines.append(
                f"- {found.claim}: open; an interval without values does not say how many seeds would settle it."
            )
        elif seeds is None:
            lines.append(f"- {found.claim}: open; at this mean not even 1000 seeds would settle it.")
        else:
            minutes = one.seconds / 60 / max(found.seeds, 1) * seeds
            lines.append(f"- {found.claim}: open; {seeds} seeds would settle it, {minutes:,.0f} core-minutes.")
    return ["\n".join(lines)] if lines else []


def summary(results: Sequence[Result]) -> str:
    """A Markdown table: for each experiment its question, and how many of its claims have each verdict."""
    lines = [f"| experiment | {' | '.join(KINDS)} | core-minutes |", "| --- | ---: | ---: | ---: | ---: |"]
    for one in results:
        verdicts = [found.verdict for found in one.findings]
        counts = " | ".join(str(verdicts.count(kind) or "") for kind in KINDS)
        lines.append(f"| {one.title} | {counts} | {one.seconds / 60:.0f} |")
    total = " | ".join(str(counts_of(results)[kind]) for kind in KINDS)
    lines.append(f"| **together** | {total} | {core_minutes(results)} |")
    return "\n".join(lines) + "\n"


def counts_of(results: Sequence[Result]) -> Counter[str]:
    """How many claims of all experiments have each verdict."""
    return Counter(found.verdict for one in results for found in one.findings)


def core_minutes(results: Sequence[Result]) -> int:
    return round(sum(one.seconds for one in results) / 60)


def table(results: Sequence[Result], folder: str) -> str:
    """The scoreboard as Markdown: a section an experiment, a row a claim."""
    counted = counts_of(results)
    counts = ", ".join(f"{counted[verdict]} {verdict}" for verdict in KINDS)
    cost = f"{core_minutes(results)} core-minutes"
    parts = [f"{len(results)} experiments, {counted.total()} claims: {counts}. They took {cost} in all.\n"]
    for one in results:
        paragraphs = one.question.split("\n\n", 1)
        parts.append(f"## {one.title}")
        parts.append(paragraphs[1].strip() if len(paragraphs) > 1 else "")
        if one.findings:
            parts.append("\n".join([HEAD, *(_row(found) for found in one.findings)]))
            parts += _open_claims(one)
        if one.verdicts:
            parts.append("\n".join(f"- {words}" for words in one.verdicts.values()))
        for name, caption in one.pictures.items():
            parts.append(f"![{caption}]({folder}/{name}.png)\n\n{caption}")
        cost = f"{one.runs} runs, {one.seconds / 60:.0f} core-minutes"
        parts.append(f"`{one.command}` ({cost}; jax {one.made_with['jax']})")
    return "\n\n".join(part for part in parts if part) + "\n"
