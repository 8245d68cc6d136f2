"""A scaling analysis as text, JSON and a figure: what ``launch.py fit`` prints and writes."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax.storage import make_folder, write_json, writing
from gpt_jax.study.scaling import figure
from gpt_jax.study.scaling.analysis import ScalingAnalysis, analyse, overflows_ignored
from gpt_jax.study.scaling.table import RunTable


@overflows_ignored()
def fit_runs(runs: RunTable, law: str, out: str, *, seed: int, resamples: int) -> ScalingAnalysis:
    """Fits a law to runs, prints the analysis, and writes fit.json and fit.png into the directory ``out``, if given."""
    directory = make_folder(Path(out)) if out else None
    found = analyse(runs, law, seed=seed, resamples=resamples)
    print(describe(found))
    if directory is not None:
        write_json(directory / "fit.json", to_json(found))
        with writing(directory / "fit.png"):
            figure.draw(found).savefig(directory / "fit.png", dpi=140)
        print(f"\nwrote {directory / 'fit.json'} and {directory / 'fit.png'}")
    return found


def describe(found: ScalingAnalysis) -> str:
    """The analysis as text."""
    law, runs = found.fit.law, found.points
    distinct = ", ".join(f"{len(np.unique(runs[name]))} distinct {name}" for name in law.columns)
    lines = _degenerate(found, distinct)
    lines += [
        f"loss = {law.formula}, fitted to {len(runs)} runs of {runs['flops'].min():.2g} to "
        f"{runs['flops'].max():.2g} FLOPs ({distinct})",
        "",
        *(f"  {name:<9} {estimate}" for name, estimate in found.coefficients.items()),
        "",
        *([] if found.degenerate else [_starts(found), *(_flat(found, vector) for vector in found.fit.flat)]),
    ]
    if found.lack_of_fit:
        lines.append(str(found.lack_of_fit))
    if found.held_out:
        h = found.held_out
        lines.append(
            f"fitted to the {h.fitted} runs with the fewest FLOPs, it predicts the other {h.predicted} with a mean absolute "
            f"error of {h.mean_size:.2%}, a mean error of {h.mean_error:+.2%}"
        )
    lines += [*(f"excluded: {row}" for row in runs.excluded), ""]
    lines += ["compute-optimal params ~ FLOPs^a, a ="]
    if found.exponent and not found.degenerate:
        lines.append(f"  {found.exponent} by this law")
    for name, result in found.without_law.items():
        value = f"none by the {name}: {result}" if isinstance(result, str) else f"{result.exponent:.4g} by the {name}"
        lines.append(f"  {value}")
    if found.splits and not found.degenerate:
        lines += ["", f"{'FLOPs':>9}  {'params':<32} {'tokens':<32} loss"]
        lines += [
            f"{s.flops:>9.2e}  {str(s.params):<32} {str(s.tokens):<32} {s.loss}"
            + (f"   {s.beyond:.0f}x extrapolated" if s.beyond > 1.01 else "")
            for s in found.splits
        ]
    return "\n".join(lines)


def _degenerate(found: ScalingAnalysis, distinct: str) -> list[str]:
    """The head of a fit whose coefficients are at a bound; empty for others."""
    if not found.degenerate:
        return []
    return [
        "degenerate fit: these runs do not determine the law; do not use its coefficients",
        *(f"  {text}" for text in found.degenerate),
        f"  the runs have {distinct}: train more sizes, each for several numbers of tokens, over a wider range",
        "",
    ]


def _starts(found: ScalingAnalysis) -> str:
    best, *others = found.fit.optima
    text = f"{best.starts} of {sum(o.starts for o in found.fit.optima)} starts ended at this optimum"
    if others and best.objective:
        text += f"; the next is {others[0].objective / best.objective - 1:.1%} worse"
    return text


def to_json(found: ScalingAnalysis) -> dict[str, Any]:
    return {
        "law": found.fit.law.formula,
        "points": len(found.points),
        "excluded": list(found.points.excluded),
        "degenerate": list(found.degenerate),
        "lack_of_fit": dataclasses.asdict(found.lack_of_fit) if found.lack_of_fit else None,
        "coefficients": {name: dataclasses.asdict(e) for name, e in found.coefficients.items()},
        "optima": [
            {
                "objective": o.objective,
                "starts": o.starts,
                "coefficients": found.fit.law.report(o.theta[None])[0].tolist(),
            }
            for o in found.fit.optima[:10]
        ],
        "exponent": dataclasses.asdict(found.exponent) if found.exponent else None,
        "splits": [dataclasses.asdict(split) for split in found.splits],
        "held_out": dataclasses.asdict(found.held_out) if found.held_out else None,
        "without_law": {
            name: result if isinstance(result, str) else result.exponent for name, result in found.without_law.items()
        },
    }


def _flat(found: ScalingAnalysis, vector: np.ndarray) -> str:
    """A direction that the points do not determine, as relative changes of the coefficients along it."""
    law, theta = found.fit.law, found.fit.theta
    moved = law.report(np.stack([theta, theta + 1e-3 * vector]))
    change = (moved[1] - moved[0]) / np.abs(moved[0])
    text = ", ".join(
        f"{name} {relative / np.abs(change).max():+.0%}"
        for name, relative in zip(law.coefficients, change, strict=True)
        if abs(relative) > 0.02 * np.abs(change).max()
    )
    return f"the runs hardly determine a joint change in these proportions: {text}"
