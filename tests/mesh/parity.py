"""One training step on meshes of eight virtual devices against one device, in float64.

python -m tests.mesh.parity            prints the table, a line when it is known
python -m tests.mesh.parity --write    and puts it into docs/distributed.md

The loss may differ by ``LOSS`` and no array's gradient by more than ``GRADIENT`` of its own norm.
"""

import argparse
import dataclasses
import functools
import itertools
import os
import sys
from pathlib import Path
from typing import Any

from tests import xla

LOSS, GRADIENT = 1e-12, 1e-10
DEVICES, ROWS, CONTEXT = 8, 16, 32
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "distributed.md"
BEGIN, END = "<!-- parity -->\n", "<!-- /parity -->"

EXPERTS = "moe(experts=8, z=0.1{})"
# Knobs of the mesh, and of the model, which has to have what an axis splits.
AXES: dict[str, dict[str, Any]] = {
    "data": {},
    "fsdp": {},
    "tensor": {},
    "context, ring": {"mesh.context_strategy": "ring(block=2)"},
    "expert": {"model.mlp": EXPERTS.format("")},
    "pipeline": {"model.scan": True, "model.layers": 16},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "tensor, odd vocabulary": {"model.vocab": 61},
    "context, ring without zig-zag": {"mesh.context_strategy": "ring(zigzag=False, block=2)"},
    "context, gather": {"mesh.context_strategy": "gather"},
    "context, ulysses": {"mesh.context_strategy": "ulysses"},
    "expert, with a capacity": {"model.mlp": EXPERTS.format(", capacity=1.0")},
    "pipeline, two rounds": {"model.scan": True, "model.layers": 32, "mesh.rounds": 2},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"train.accumulate": 2},
    "remat": {"model.remat": "full"},
    "dropout": {"model.dropout": 0.1},
    "packing": {"data.pack": "segments"},
}
MODEL = {
    "layers": 2,
    "width": 16,
    "heads": 8,
    "kv_heads": 2,
    "head_dim": 4,
    "mlp_width": 32,
    "vocab": 64,
    "context": CONTEXT,
    "attention": ("full(qk_norm='rms', softcap=3.0, sink=True)", "sliding(window=7)"),
    "position": "rope(theta=100.0)",
    "bias": False,  # of keys a bias has no gradient but rounding
    "dtype": "float64",
}


@dataclasses.dataclass(frozen=True)
class Found:
    loss: float
    gradients: dict[str, Any]  # by path, on the host


def layouts() -> dict[str, dict[str, Any]]:
    """Every axis alone over all devices, every pair, variants beside fsdp and tensor, and some of three axes, as knobs."""
    together = [(name,) for name in (*AXES, *VARIANTS)]
    together += itertools.combinations(AXES, 2)
    together += [(axis, name) for axis in ("fsdp", "tensor") for name in VARIANTS if not name.startswith(axis)]
    together += [("data", "tensor", name) for name in (*list(AXES)[3:], "context, ulysses")]
    together += [("context, ring", "expert", "pipeline"), ("fsdp", "tensor", "pipeline, two rounds")]
    found = {}
    for names in together:
        sizes = {1: (DEVICES,), 2: (2, DEVICES // 2), 3: (2, 2, 2)}[len(names)]
        knobs = {f"mesh.{name.split(',')[0]}": size for name, size in zip(names, sizes, strict=True)}
        for name in names:
            knobs |= (AXES | VARIANTS)[name]
        found[" x ".join(names)] = knobs
    return found


def alone(knobs: dict[str, Any]) -> dict[str, Any]:
    """The same model on one device."""
    return {key: value for key, value in knobs.items() if key.startswith("model.")}


def config_of(knobs: dict[str, Any], option: str) -> Any:
    """Of a run on a mesh."""
    from gpt_jax.config import Config
    from gpt_jax.configs import base
    from tests.mesh.sizes import mesh_config

    settings = base.get_config()
    sizes = {key.removeprefix("mesh."): value for key, value in knobs.items() if key.startswith("mesh.")}
    settled = {f"model.{name}": value for name, value in MODEL.items()} | alone(knobs) | OPTIONS[option]
    for key, value in {"train.batch": ROWS, **settled}.items():
        section, _, name = key.rpartition(".")
        settings[section][name] = value
    return dataclasses.replace(Config.from_dict(settings.to_dict()), mesh=mesh_config(**sizes))


def step(knobs: dict[str, Any], option: str, devices: int = DEVICES) -> Found:
    """Loss and gradients of a step, from the same parameters, batch and dropout whatever the mesh.

    Raises:
      UserError: the mesh cannot do it.
    """
    import jax
    import numpy as np

    from gpt_jax.mesh import mesh as meshes
    from gpt_jax.mesh.spread import check
    from gpt_jax.train.gradients import loss_and_grads
    from gpt_jax.train.step import hyper_scalars, make_program

    config = config_of(knobs, option)
    mesh = meshes.over(config.mesh, jax.devices()[:devices])
    check(mesh, config)
    program = make_program(config, mesh)
    with jax.set_mesh(mesh):
        state = program.init(0)
        compiled = jax.jit(functools.partial(loss_and_grads, program.recipe))
        batch = meshes.put_batch(rows(config.model.vocab, config.model.context, option == "packing"), mesh)
        metrics, gradients = compiled(state, batch, hyper_scalars(config))
    by_path = jax.tree_util.tree_leaves_with_path(gradients)
    return Found(float(metrics["loss"]), {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in by_path})


def rows(vocab: int, context: int, packed: bool) -> dict[str, Any]:
    """A batch, the same on every call; packed: of documents whose ends fall into all parts of a row."""
    import numpy as np

    draw = np.random.default_rng(0)
    tokens, targets = draw.integers(0, vocab, (2, ROWS, context)).astype(np.int32)
    weights = (draw.random((ROWS, context)) < 0.9).astype(np.float32)
    found = {"tokens": tokens, "targets": targets, "weights": weights}
    if not packed:
        return found
    begins = draw.random((ROWS, context)) < 0.1
    begins[:, 0] = True
    place = np.arange(context)
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    return {**found, "segments": begins.cumsum(1).astype(np.int32), "positions": (place - first).astype(np.int32)}


def differences(found: Found, wanted: Found) -> tuple[float, float]:
    """Of the loss, and the largest of an array's gradient, relative to ``wanted``."""
    import numpy as np

    assert found.gradients.keys() == wanted.gradients.keys()
    of_arrays = (
        np.linalg.norm(found.gradients[path] - value) / np.linalg.norm(value)
        for path, value in wanted.gradients.items()
    )
    return abs(found.loss - wanted.loss) / abs(wanted.loss), max(map(float, of_arrays))


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.mesh.parity", description=__doc__.splitlines()[0])
    asked.add_argument("--write", action="store_true", help="put the table into docs/distributed.md")
    asked.add_argument("--only", default="", help="meshes whose name contains this")
    given = asked.parse_args()
    os.environ["JAX_ENABLE_X64"], os.environ["JAX_PLATFORMS"] = "1", "cpu"
    os.environ["XLA_FLAGS"], os.environ["NPROC"] = xla.flags(DEVICES), str(2 * DEVICES)
    table = {name: sizes for name, sizes in layouts().items() if given.only in name}
    head, lines, good = [_row("mesh", *OPTIONS), _row(*("---" for _ in range(len(OPTIONS) + 1)))], {}, True
    print(*head, sep="\n", flush=True)
    for name, knobs in table.items():
        cells = []
        for option in OPTIONS:
            cell, fits = _cell(knobs, option)
            cells.append(cell)
            good &= fits
        lines[name] = _row(name, *cells)
        print(lines[name], flush=True)
    if given.write:
        _write(head, lines)
    return int(not good)


def _write(head: list[str], lines: dict[str, str]) -> None:
    """Into the document, the rows that are not among these staying as they are."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    there = {line.split("|")[1].strip(): line for line in table.splitlines()} | lines
    rows = [there[name] for name in layouts() if name in there]
    DOCUMENT.write_text(f"{before}{BEGIN}" + "\n".join([*head, *rows]) + f"\n{END}{after}")


@functools.cache
def _wanted(knobs: tuple[tuple[str, Any], ...], option: str) -> Found:
    return step(dict(knobs), option, 1)


def _cell(knobs: dict[str, Any], option: str) -> tuple[str, bool]:
    from gpt_jax.errors import UserError

    try:
        found = step(knobs, option)
        loss, gradient = differences(found, _wanted(tuple(alone(knobs).items()), option))
    except UserError:
        return "refused", True
    return f"{loss:.0e}, {gradient:.0e}", loss <= LOSS and gradient <= GRADIENT


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
