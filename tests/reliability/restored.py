"""A run that is saved on one mesh and goes on on another has the same state and the same next batch, to the last bit.

python -m tests.reliability.restored    every ordered pair of twelve meshes of eight devices, and of 1, 2 and 4 processes
"""

import argparse
import hashlib
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests import xla
from tests.mesh.processes import run_processes

DEVICES, STEPS = 8, 2
MESHES: dict[str, dict[str, int]] = {
    "data=8": {"data": 8},
    "fsdp=8": {"fsdp": 8},
    "tensor=8": {"tensor": 8},
    "context=8": {"context": 8},
    "expert=8": {"expert": 8},
    "pipeline=8": {"pipeline": 8},
    "data=2 fsdp=4": {"data": 2, "fsdp": 4},
    "fsdp=2 tensor=4": {"fsdp": 2, "tensor": 4},
    "data=2 tensor=2 context=2": {"data": 2, "tensor": 2, "context": 2},
    "fsdp=4 expert=2": {"fsdp": 4, "expert": 2},
    "data=2 tensor=2 pipeline=2": {"data": 2, "tensor": 2, "pipeline": 2},
    "context=2 expert=2 pipeline=2": {"context": 2, "expert": 2, "pipeline": 2},
}
COUNTS = (1, 2, 4)  # of processes
IN_PROCESSES = {"fsdp": 2, "tensor": 2}
MODEL = {
    "layers": 8,
    "width": 16,
    "heads": 8,
    "context": 32,
    "vocab": 257,  # divides over no axis: its tables are split otherwise
    "scan": True,
    "mlp": "moe(experts=8)",
}


def visit(folder: Path, mesh: dict[str, int], save: bool) -> dict[str, Any]:
    """Opens the run in ``folder`` on a mesh, as training does; saving, trains and saves it first.

    Returns digests of every array of the state, and of the next batch.
    """
    import jax

    from gpt_jax.train.monitors.watchdog import Phases
    from gpt_jax.train.run import open_run
    from gpt_jax.train.signals import StopRequest
    from gpt_jax.train.trainer import Trainer

    run = open_run(_config(folder, mesh), folder / "run")
    with jax.set_mesh(run.mesh), Trainer.open(run, StopRequest(), Phases()) as (trainer, state):
        step = trainer.start
        while save and step < STEPS:
            batch, _ = trainer.feed.batch(step, state)
            state, _ = run.program.step(state, batch, trainer.recorder.hyper)
            step += 1
        if save:
            trainer.save(state, step, None)
            trainer.checkpoints.wait()
        next_batch, _ = trainer.feed.batch(step, state)
        found = {"state": _digests(run.program.stack(state)), "batch": _digests(next_batch)}
    return {"step": step, **found}


def _config(folder: Path, mesh: dict[str, int]) -> Any:
    from gpt_jax.config import Config
    from gpt_jax.configs import base

    text = folder.parent / "text.txt"
    values = base.get_config().to_dict()
    knobs = {f"model.{name}": value for name, value in MODEL.items()}
    knobs |= {"mesh.data": 1} | {f"mesh.{axis}": size for axis, size in mesh.items()}
    knobs |= {
        "data.source": f"text(path={str(text)!r})",
        "data.tokenizer": "bytes",
        "data.cache": str(folder.parent / "data"),
    }
    knobs |= {"train.batch": 16, "train.steps": 10, "train.tensorboard": False, "optim.ema": 0.9, "sample.prompts": ()}
    for key, value in knobs.items():
        section, name = key.split(".")
        values[section][name] = value
    return Config.from_dict(values)


def _digests(tree: Any) -> dict[str, str]:
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    several = jax.process_count() > 1
    whole = multihost_utils.process_allgather(tree, tiled=True) if several else tree
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(whole):
        array = np.asarray(leaf)
        found[jax.tree_util.keystr(path)] = hashlib.sha256(
            f"{array.dtype}{array.shape}".encode() + array.tobytes()
        ).hexdigest()
    return found


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What is not the same."""
    parts = [(part, name) for part in ("state", "batch") for name in sorted(wanted[part].keys() | found[part].keys())]
    unequal = [f"{part}{name}" for part, name in parts if found[part].get(name) != wanted[part].get(name)]
    return unequal + (["step"] if found["step"] != wanted["step"] else [])


def in_processes(folder: Path, count: int, save: bool) -> dict[str, Any]:
    """``visit`` by so many processes of four devices in all.

    Raises:
      RuntimeError: one failed, or they do not agree.
    """
    said = folder / f"said-{count}-{'save' if save else 'read'}"
    said.mkdir(parents=True, exist_ok=True)
    argv = ["-m", "tests.reliability.restored", f"--visit={folder}", *(["--save"] if save else [])]
    finished = run_processes(argv, said, count, len(IN_PROCESSES) ** 2 // count)
    for process in finished:
        if process.returncode:
            raise RuntimeError(f"one of {count} processes ended with {process.returncode}\n{process.stderr[-3000:]}")
    found = [json.loads(process.stdout.splitlines()[-1]) for process in finished]
    if any(one != found[0] for one in found):
        raise RuntimeError(f"{count} processes do not agree: {found}")
    return found[0]


def meshes(folder: Path, pairs: list[tuple[str, str]]) -> list[str]:
    """The pairs of ``MESHES`` after which something differs, each with what."""
    write_text(folder)
    wrong, saved = [], {}
    for first, second in pairs:
        own = folder / first.replace(" ", "-")
        if first not in saved:
            saved[first] = visit(own, MESHES[first], save=True)
        unequal = differences(visit(own, MESHES[second], save=False), saved[first])
        if unequal:
            wrong.append(f"{first} -> {second}: {', '.join(unequal[:5])}")
    return wrong


def counts(folder: Path, pairs: list[tuple[int, int]]) -> list[str]:
    """The same of pairs of numbers of processes."""
    write_text(folder)
    wrong, saved = [], {}
    for first, second in pairs:
        own = folder / f"processes-{first}"
        if first not in saved:
            saved[first] = in_processes(own, first, save=True)
        unequal = differences(in_processes(own, second, save=False), saved[first])
        if unequal:
            wrong.append(f"{first} -> {second} processes: {', '.join(unequal[:5])}")
    return wrong


def write_text(folder: Path) -> None:
    (folder / "text.txt").write_text("the cat sat on a mat.\n" * 400)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visit", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.visit:
        print(json.dumps(visit(given.visit, IN_PROCESSES, given.save)))
        return 0
    os.environ["JAX_PLATFORMS"], os.environ["XLA_FLAGS"] = "cpu", xla.flags(DEVICES)
    with tempfile.TemporaryDirectory() as directory:
        of_meshes = list(itertools.product(MESHES, repeat=2))
        wrong = []
        for first in MESHES:
            of_first = [pair for pair in of_meshes if pair[0] == first]
            found = meshes(Path(directory), of_first)
            print(f"saved on {first}: the same on {len(of_first) - len(found)} of {len(of_first)} meshes", flush=True)
            wrong += found
        pairs = list(itertools.permutations(COUNTS, 2))
        found = counts(Path(directory), pairs)
        print(
            f"of {', '.join(map(str, COUNTS))} processes: the same in {len(pairs) - len(found)} of {len(pairs)} pairs"
        )
    print(*wrong, *found, sep="\n")
    return int(bool(wrong or found))


if __name__ == "__main__":
    sys.exit(main())
