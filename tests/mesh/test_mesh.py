import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from gpt_jax.errors import UserError
from gpt_jax.mesh import mesh as meshes
from tests.mesh.sizes import mesh_config

MESHES = [{"data": 8}, {"fsdp": 8}, {"data": 4, "tensor": 2}, {"data": 2, "fsdp": 2, "tensor": 2}]


def test_minus_one_is_the_rest():
    mesh = meshes.make(mesh_config(data=-1, tensor=2))
    assert dict(mesh.shape) == {"data": 4, "fsdp": 1, "tensor": 2, "context": 1, "expert": 1, "pipeline": 1}
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert meshes.make(mesh_config(data=2, fsdp=-1, tensor=2)).shape["fsdp"] == 2


@pytest.mark.parametrize("sizes", [{"pipeline": 2, "tensor": 4}, {"data": 2, "expert": 2, "context": 2}])
def test_devices_that_exchange_most_are_nearest(sizes):
    mesh = meshes.make(mesh_config(**sizes))
    number = np.vectorize(lambda device: device.id)(mesh.devices)
    apart = 8
    for axis, size in sizes.items():  # the farthest first
        apart //= size
        assert set(np.diff(number, axis=meshes.AXES.index(axis)).flat) == {apart}


@pytest.mark.parametrize(
    "sizes", [{"data": 3}, {"data": 16}, {"data": -1, "tensor": 3}, {"data": 4, "fsdp": 4}, {"data": -1, "fsdp": -1}]
)
def test_a_mesh_that_does_not_match_the_devices_is_refused_with_one_that_does(sizes):
    with pytest.raises(UserError) as caught:
        meshes.make(mesh_config(**sizes))
    message = str(caught.value)
    if list(sizes.values()).count(-1) < 2:
        assert "8" in message and all(f"{axis}={size}" in message for axis, size in sizes.items())
    flags = dict(part.removeprefix("--config.mesh.").split("=") for part in caught.value.fix.split() if "=" in part)
    example = meshes.make(mesh_config(**{axis: int(size) for axis, size in flags.items()}))
    assert example.size == 8


def test_a_batch_has_to_divide_over_the_mesh_in_every_micro_batch():
    mesh = meshes.make(mesh_config(data=2, fsdp=2, tensor=2))
    meshes.check_batch(mesh, 8, 2)
    meshes.check_batch(mesh, 4, 1)
    with pytest.raises(UserError, match="train.batch = 6"):
        meshes.check_batch(mesh, 6, 1)
    with pytest.raises(UserError, match="train.batch=8") as caught:  # the example
        meshes.check_batch(mesh, 4, 2)
    assert "= 8" in caught.value.allowed


@pytest.mark.parametrize("sizes", MESHES)
def test_put_batch_keeps_every_row_in_its_place(sizes):
    mesh = meshes.make(mesh_config(**sizes))
    rows = {"tokens": np.arange(16 * 5, dtype=np.int32).reshape(16, 5), "weights": np.ones((16, 5), np.float32)}
    start, stop = meshes.my_rows(mesh, 16)
    assert (start, stop) == (0, 16)
    batch = meshes.put_batch(rows, mesh)
    assert set(batch) == set(rows)
    for name, array in batch.items():
        assert array.dtype == rows[name].dtype
        assert array.sharding == meshes.batch_sharding(mesh)
        np.testing.assert_array_equal(np.asarray(array), rows[name])
    per_device = 16 // meshes.batch_shards(mesh)
    assert {shard.data.shape for shard in batch["tokens"].addressable_shards} == {(per_device, 5)}


def test_put_batch_splits_texts_where_they_divide():
    mesh = meshes.make(mesh_config(data=2, context=4))
    rows = {"tokens": np.arange(16 * 12).reshape(16, 12), "pairs": np.arange(16 * 16).reshape(16, 2, 8)}
    whole = {"odd": np.arange(16 * 5).reshape(16, 5), "rewards": np.arange(16.0)}
    batch = meshes.put_batch(rows | whole, mesh)
    for name, array in (rows | whole).items():
        np.testing.assert_array_equal(np.asarray(batch[name]), array)
    shapes = {name: {shard.data.shape for shard in array.addressable_shards} for name, array in batch.items()}
    assert shapes == {"tokens": {(8, 3)}, "pairs": {(8, 2, 2)}, "odd": {(8, 5)}, "rewards": {(8,)}}


def test_a_sum_over_a_split_batch_is_the_sum_of_its_rows():
    mesh = meshes.make(mesh_config(data=2, fsdp=4))
    rows = np.random.default_rng(0).integers(0, 1000, (16, 7), np.int32)
    total = jax.jit(lambda batch: batch["x"].sum(0))(meshes.put_batch({"x": rows}, mesh))
    np.testing.assert_array_equal(total, rows.sum(0))


@pytest.mark.parametrize(
    "sizes, expected",
    [
        ({"data": -1}, {"data": 8}),
        ({"data": 2, "fsdp": 4}, {"data": 2, "fsdp": 4}),
        ({"data": 1, "fsdp": 64}, {"fsdp": 8}),
        ({"data": 3, "tensor": 2}, {"data": 4, "tensor": 2}),
        ({"data": -1, "fsdp": 12, "tensor": 4}, {"fsdp": 2, "tensor": 4}),
    ],
)
def test_readers_get_a_mesh_that_fits(sizes, expected):
    mesh = meshes.make(meshes.fitting(mesh_config(**sizes)))
    assert {axis: size for axis, size in mesh.shape.items() if size > 1} == expected
