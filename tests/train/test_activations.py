"""Activations are split as the batch is, whatever the parameters are split by."""

import jax
import pytest

from gpt_jax.mesh import mesh as meshes
from gpt_jax.train.step import hyper_scalars, make_program
from tests.train import tiny


def temporaries(scan: bool, **axes: int) -> int:
    """Bytes a device needs for a step besides the state and the batch."""
    mesh_axes = {f"mesh__{axis}": size for axis, size in ({"data": 1} | axes).items()}
    c = tiny.config(
        model__layers=2,
        model__width=64,
        model__heads=4,
        model__context=128,
        train__batch=16,
        model__scan=scan,
        **mesh_axes,
    )
    mesh = meshes.make(c.mesh)
    program, sharding = make_program(c, mesh), meshes.batch_sharding(mesh)
    kinds = {"tokens": "int32", "targets": "int32", "weights": "float32"}
    batch = {name: jax.ShapeDtypeStruct((16, 128), kind, sharding=sharding) for name, kind in kinds.items()}
    with jax.set_mesh(mesh):
        compiled = program.step.lower(program.live, batch, hyper_scalars(c)).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("scan", [False, True])
def test_fsdp_needs_no_more_memory_for_activations_than_data(scan):
    assert temporaries(scan, fsdp=8) < 1.3 * temporaries(scan, data=8)
