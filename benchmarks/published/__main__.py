"""Predicted against published step times, and the constants of chips that predictions are made with.

python -m benchmarks.published           prints the table and the constants fitted anew
python -m benchmarks.published --write   and puts the table into docs/planning.md

Of each chip every other run, in the order of ``systems``, is fitted; the rest tests the fit.
"""

import argparse
import itertools
import math
import statistics
import sys
from dataclasses import replace

from benchmarks.published.systems import System, systems
from benchmarks.table import markdown
from benchmarks.worker import ROOT
from gpt_jax.mesh.planning.chips import CHIPS, Chip
from gpt_jax.mesh.planning.roofline import estimate

DOCUMENT = ROOT / "docs" / "planning.md"
BEGIN, END = "<!-- published -->\n", "<!-- /published -->"
PRODUCTS = [n / 100 for n in range(40, 101, 2)]
WIDTHS = [0.0, 100.0, 200.0, 400.0, 600.0, 800.0, 1000.0, 1500.0, 2000.0]
CARDS_200 = 25e9  # bytes a second of a network card of 200 Gb/s


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m benchmarks.published", description=__doc__.splitlines()[0])
    asked.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.relative_to(ROOT)}")
    given = asked.parse_args()
    found = systems()
    text = table(found)
    print(text)
    for name, constants in fitted(found).items():
        print(f"{name}: products {constants[0]:.2f}, half_width {constants[1]:g}")
    if given.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}{text}\n{END}{rest.partition(END)[2]}")
    return 0


def fits(found: list[System]) -> dict[str, list[System]]:
    """Chip -> the runs that its constants are fitted to."""
    chosen: dict[str, list[System]] = {}
    for chip in dict.fromkeys(one.chip for one in found):
        chosen[chip] = [one for one in found if one.chip == chip and one.counts][::2]
    return chosen


def fitted(found: list[System]) -> dict[str, tuple[float, float]]:
    """Chip -> ``Chip.products`` and ``Chip.half_width`` of the least mean error of logarithms, a half at most."""
    return {
        chip: min(itertools.product(PRODUCTS, WIDTHS), key=lambda pair: _misfit(replace_constants(chip, pair), runs))
        for chip, runs in fits(found).items()
    }


def replace_constants(chip: str, constants: tuple[float, float]) -> Chip:
    return replace(CHIPS[chip], products=constants[0], half_width=constants[1])


def _misfit(chip: Chip, runs: list[System]) -> float:
    return statistics.mean(min(0.5, abs(math.log(predicted(run, chip) / run.seconds))) for run in runs)


def predicted(run: System, chip: Chip) -> float:
    """Seconds of a step."""
    chip = replace(chip, slow=CARDS_200) if "200 Gb/s" in run.note else chip
    return estimate(run.shape, run.layout, chip).seconds


def error(run: System) -> float:
    """Of the prediction, relative to what is published."""
    return predicted(run, CHIPS[run.chip]) / run.seconds - 1


def table(found: list[System]) -> str:
    used = [run for runs in fits(found).values() for run in runs]
    rows = [["run", "chip", "mesh", "batch, T", "published, s", "predicted, s", "error", "", "source"]]
    for run in found:
        mesh = " x ".join(f"{axis} {size}" for axis, size in run.layout.axes.items() if size > 1)
        role = "fitted" if run in used else "tested" if run.counts else "not counted"
        seconds, note = predicted(run, CHIPS[run.chip]), f"; {run.note}" if run.note else ""
        rows.append(
            [
                run.name,
                run.chip,
                mesh,
                f"{run.layout.batch}, {run.shape.context}",
                f"{run.seconds:.3g}",
                f"{seconds:.3g}",
                f"{error(run):+.0%}",
                role,
                run.source + note,
            ]
        )
    lines = [markdown(rows), ""]
    for role, runs in (("fitted", used), ("tested", [run for run in found if run.counts and run not in used])):
        errors = sorted(abs(error(run)) for run in runs)
        lines.append(
            f"{len(runs)} runs {role}: median error {statistics.median(errors):.0%}, largest {errors[-1]:.0%}."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
