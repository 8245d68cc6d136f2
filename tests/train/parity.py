"""The losses of one small run on several meshes; ``python -m tests.train.parity --steps=50`` tells how far they differ.

Each run is the real command in processes of its own. All start from the same seed and read the same batches, so that
their losses differ by the order of floating-point sums alone.
"""

import argparse
import json
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.mesh.processes import run_processes

LIMITS = {"float32": 1e-5, "float64": 1e-11}  # largest relative difference of a step's loss
BATCH = 16
SECONDS = 600  # for a run to end in


@dataclass(frozen=True)
class Layout:
    """A mesh, and the processes and virtual devices (each) that make it up."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    context: int = 1
    processes: int = 1

    @property
    def devices(self) -> int:
        return self.data * self.fsdp * self.tensor * self.context // self.processes


ALONE = Layout()
LAYOUTS = {
    "data=8": Layout(data=8),
    "fsdp=8": Layout(fsdp=8),
    "tensor=2 x data=4": Layout(data=4, tensor=2),
    "2 processes, fsdp=8": Layout(fsdp=8, processes=2),
    "2 processes, context=8": Layout(context=8, processes=2),
}


def write_text(path: Path) -> None:
    """Words of 26 letters, the same on every call."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(1, 8))) for _ in range(200)]
    path.write_text("\n".join(" ".join(draw.choices(words, k=12)) for _ in range(1000)) + "\n")


def command(layout: Layout, dtype: str, steps: int, folder: Path) -> list[str]:
    """The arguments of a run in ``folder``/run on the text in ``folder``/text.txt."""
    knobs = {
        "model.layers": 2,
        "model.width": 32,
        "model.heads": 4,
        "model.context": 32,
        "model.vocab": 64,
        "model.dtype": dtype,
        "data.source": f"text(path='{folder / 'text.txt'}')",
        "data.tokenizer": "chars",
        "data.cache": folder / "cache",
        "optim.lr": 3e-3,
        "optim.warmup": 2,
        "train.steps": steps,
        "train.batch": BATCH,
        "train.log_every": 1,
        "train.eval_every": steps,
        "train.eval_batches": 1,
        "train.save_every": steps,
        "train.tensorboard": False,
        "sample.prompts": "()",
        "mesh.data": layout.data,
        "mesh.fsdp": layout.fsdp,
        "mesh.tensor": layout.tensor,
        "mesh.context": layout.context,
    }
    flags = [f"--config.{key}={value}" for key, value in knobs.items()]
    return ["launch.py", "train", "--config=configs/base.py", f"--workdir={folder / 'run'}", *flags]


def losses(layout: Layout, dtype: str, steps: int, folder: Path) -> list[float]:
    """train/loss of every step of a run on ``layout``, made in ``folder`` (which is created).

    Raises:
      RuntimeError: a process failed; the message holds the end of its stderr.
    """
    folder.mkdir(parents=True)
    write_text(folder / "text.txt")
    x64 = {"JAX_ENABLE_X64": "1" if dtype == "float64" else "0"}
    finished = run_processes(
        command(layout, dtype, steps, folder), folder, layout.processes, layout.devices, SECONDS, x64
    )
    for rank, process in enumerate(finished):
        if process.returncode:
            raise RuntimeError(f"process {rank} of {layout} ended with {process.returncode}\n{process.stderr[-4000:]}")
    records = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    found = {record["step"]: record["train/loss"] for record in records if "train/loss" in record}
    if len(found) != steps:
        raise RuntimeError(f"{len(found)} losses of {steps} steps on {layout}")
    return [found[step] for step in sorted(found)]


def largest_difference(ours: list[float], reference: list[float]) -> float:
    """Relative to the reference, over all steps."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, reference, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--dtypes", nargs="+", default=list(LIMITS), choices=list(LIMITS))
    arguments = parser.parse_args()
    good = True
    print(f"{'dtype':<9} {'mesh':<20} {'largest relative difference':>28} {'allowed':>8}   last loss")
    for dtype in arguments.dtypes:
        with tempfile.TemporaryDirectory() as scratch:
            reference = losses(ALONE, dtype, arguments.steps, Path(scratch) / "alone")
            print(f"{dtype:<9} {'1 device':<20} {'-':>28} {'-':>8}   {reference[-1]!r}", flush=True)
            for name, layout in LAYOUTS.items():
                ours = losses(layout, dtype, arguments.steps, Path(scratch) / name)
                worst = largest_difference(ours, reference)
                good &= worst <= LIMITS[dtype]
                print(f"{dtype:<9} {name:<20} {worst:>28.2e} {LIMITS[dtype]:>8.0e}   {ours[-1]!r}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
