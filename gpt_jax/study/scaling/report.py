"""A scaling analysis as text, as JSON and as a file with its figure: what ``launch.py fit`` prints and writes."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax.storage import write_json
from gpt_jax.study.scaling import figure, table
from gpt_jax.study.scaling.analysis import ScalingAnalysis, analyse


def fit_file(runs: Path, law: str, out: str, *, seed: int, resamples: int) -> ScalingAnalysis:
    """Fits a law to a table of runs, prints what is found, and writes fit.json and fit.png into ``out`` if it is named."""
    found = analyse(table.read(runs), law, seed=seed, resamples=resamples, progress=True)
    print(describe(found))
    if out:
        directory = Path(out)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "fit.json", to_json(found))
        figure.draw(found).savefig(directory / "fit.png", dpi=140)
        print(f"\nwrote {directory / 'fit.json'} and {directory / 'fit.png'}")
    return found


def describe(found: ScalingAnalysis) -> str:
    """The analysis as text."""
    law, runs = found.fit.law, found.points
    best = found.fit.optima[0]
    lines = [
        f"loss = {law.formula}, fitted to {len(runs)} runs of {runs['flops'].min():.2g} to "
        f"{runs['flops'].max():.2g} FLOPs",
        "",
        *(f"  {name:<9} {estimate}" for name, estimate in found.coefficients.items()),
        "",
        f"{best.starts} of {sum(o.starts for o in found.fit.optima)} starts ended at this optimum"
        + (
            f"; the next is {found.fit.optima[1].objective / best.objective - 1:.1%} worse"
            if found.fit.optima[1:]
            else ""
        ),
        *(_flat(found, vector) for vector in found.fit.flat),
    ]
    if found.held_out:
        h = found.held_out
        lines.append(
            f"fitted to the {h.fitted} cheapest runs it predicts the other {h.predicted} with errors of "
            f"{h.mean_size:.2%}, {h.mean_error:+.2%} on average"
        )
    lines += [*(f"left out: {row}" for row in runs.excluded), ""]
    lines += ["optimal params grow as FLOPs to the power of"]
    if found.exponent:
        lines.append(f"  {found.exponent} by this law")
    for name, result in found.without_law.items():
        told = result if isinstance(result, str) else f"{result.exponent:.4g}"
        lines.append(f"  {told} by the {name}" if not isinstance(result, str) else f"  – by the {name}: {told}")
    if found.splits:
        lines += ["", f"{'FLOPs':>9}  {'params':<32} {'tokens':<32} loss"]
        lines += [
            f"{s.flops:>9.2e}  {str(s.params):<32} {str(s.tokens):<32} {s.loss}"
            + (f"   {s.beyond:.0f}x beyond what was trained" if s.beyond > 1.01 else "")
            for s in found.splits
        ]
    return "\n".join(lines)


def to_json(found: ScalingAnalysis) -> dict[str, Any]:
    return {
        "law": found.fit.law.formula,
        "points": len(found.points),
        "excluded": list(found.points.excluded),
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
    """A direction that the points do not tell, by the change of the coefficients along it."""
    law, theta = found.fit.law, found.fit.theta
    moved = law.report(np.stack([theta, theta + 1e-3 * vector]))
    change = (moved[1] - moved[0]) / np.abs(moved[0])
    told = ", ".join(
        f"{name} {relative / np.abs(change).max():+.0%}"
        for name, relative in zip(law.coefficients, change, strict=True)
        if abs(relative) > 0.02 * np.abs(change).max()
    )
    return f"the points hardly tell a change of all together in these proportions: {told}"
