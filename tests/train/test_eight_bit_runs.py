"""Training with moments in eight bits: as good as in float32, on any layout and mesh, and resumed to the bit."""

import jax
import numpy as np
import pytest

from tests.reliability.kill import arrays, records
from tests.train import tiny

# Wide enough that all matrices but the table of positions are coded.
WIDE = {"model__width": 64, "model__heads": 2, "model__layers": 2, "optim__optimizer": "adamw8bit", "optim__lr": 3e-3}


def losses(steps, devices=1, mesh=None, **changes):
    """Of every step, over and over on the same few batches; and the last state."""
    c = tiny.config(**WIDE | {"train__batch": 8, "train__steps": steps} | changes)
    program = tiny.program(c, devices, **(mesh or {}))
    batches, found = tiny.batches(4, rows=8), []
    hyper = tiny.hyper_scalars(c)
    with jax.set_mesh(jax.tree.leaves(program.live)[0].sharding.mesh):
        state = program.init(c.train.seed)
        for k in range(steps):
            state, metrics = program.step(state, batches[k % 4], hyper)
            found.append(float(metrics["loss"]))
    assert int(state["skipped"]) == 0
    return np.array(found), state


def coded(state):
    return [leaf for leaf in jax.tree.leaves(state["opt"]) if leaf.dtype == np.uint8]


@pytest.mark.slow
def test_it_learns_as_with_moments_in_float32():
    """Another seed changes the losses of the last steps more than eight bits do; the texts are learned by heart."""
    ours, state = losses(100)
    wide, _ = losses(100, optim__optimizer="adamw")
    other, _ = losses(100, optim__optimizer="adamw", train__seed=1)
    assert len(coded(state)) == 2 * 13 and wide[-1] < 0.5 * wide[0]
    last = slice(-8, None)
    assert np.abs(ours - wide)[last].mean() < np.abs(other - wide)[last].mean()
    np.testing.assert_allclose(ours[last].mean(), wide[last].mean(), rtol=0.02)


@pytest.mark.every(4)
@pytest.mark.parametrize(
    "changes",
    [
        {"model__scan": True},
        {"train__accumulate": 2},
        {"mesh": {"fsdp": 2, "tensor": 2, "data": 2}, "devices": 8},
        {"mesh": {"pipeline": 2, "fsdp": 4}, "devices": 8, "model__scan": True},
    ],
    ids=["scanned", "accumulated", "fsdp and tensor", "pipeline and fsdp"],
)
def test_layouts_and_meshes_train_alike(changes):
    """But for numbers halfway between two codes, which rounding of another order moves to either."""
    wanted, _ = losses(4, optim__ema=0.9)
    found, state = losses(4, optim__ema=0.9, **changes)
    np.testing.assert_allclose(found, wanted, rtol=2e-4)
    assert coded(state)


@pytest.mark.slow
def test_a_resumed_run_has_the_same_bits(tmp_path):
    text = tiny.write_text(tmp_path)
    changes = WIDE | {"optim__ema": 0.9, "train__save_every": 6, "train__keep": 9, "train__log_every": 3}
    whole, parts = (tiny.command(text, tmp_path / name, **changes) for name in ("whole", "parts"))
    (first, _), (stopped, said), (resumed, after) = tiny.launch((whole, 0), (parts, 5), (parts, 0))
    assert (first, stopped, resumed) == (0, 75, 0), said + after
    assert records(tmp_path / "parts") == records(tmp_path / "whole")
    wanted, found = (arrays(tmp_path / name, 12) for name in ("whole", "parts"))
    assert any(value.dtype == np.uint8 for value in wanted.values())
    for path, value in wanted.items():
        assert np.array_equal(found[path], value), path
