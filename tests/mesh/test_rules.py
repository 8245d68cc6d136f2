import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from gpt_jax.errors import UserError
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import rules
from gpt_jax.registry import register
from tests.mesh import trees
from tests.mesh.sizes import mesh_config

EXPECTED = {
    "embed/tokens/w": ("tensor", "fsdp"),
    "embed/position/w": (None, "fsdp"),
    "blocks/1/norm1/scale": (),
    "blocks/1/attention/q/w": ("fsdp", "tensor"),
    "blocks/1/attention/k/w": ("fsdp", "tensor"),
    "blocks/1/attention/v/bias": ("tensor",),
    "blocks/1/attention/out/w": ("tensor", None, "fsdp"),
    "blocks/1/attention/out/bias": (),
    "blocks/1/mlp/up/w": ("fsdp", "tensor"),
    "blocks/1/mlp/up/bias": ("tensor",),
    "blocks/1/mlp/down/w": ("tensor", "fsdp"),
    "blocks/1/mlp/down/bias": (),
    "norm/bias": (),
    "readout/w": ("fsdp", "tensor"),
}


def specs(tree, mesh, scanned=False, table="default"):
    leaves = jax.tree_util.tree_leaves_with_path(rules.shardings(tree, mesh, table, scanned))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): sharding.spec for path, sharding in leaves}


@pytest.fixture(scope="module")
def mesh():
    return meshes.make(mesh_config(data=2, fsdp=2, tensor=2))


def test_every_parameter_goes_by_its_row(mesh):
    found = specs(trees.params(), mesh)
    assert {path: found[path] for path in EXPECTED} == {path: P(*axes) for path, axes in EXPECTED.items()}


def test_the_layer_axis_of_stacked_blocks_is_not_split(mesh):
    found = specs(trees.params(layers=4, scanned=True), mesh, scanned=True)
    for path, axes in EXPECTED.items():
        leading = (None,) if "blocks" in path and axes else ()
        assert found[path.replace("blocks/1", "blocks/0")] == P(*leading, *axes)


@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize(
    "optimizer", [optax.adamw(1e-3), optax.adafactor(1e-3, min_dim_size_to_factor=16), optax.contrib.muon(1e-3)]
)
def test_optimizer_state_lies_with_its_parameters(mesh, optimizer, scanned):
    params = trees.params(scanned=scanned)
    labelled = optax.multi_transform({"all": optimizer}, lambda p: jax.tree.map(lambda _: "all", p))
    state = {
        "step": jax.ShapeDtypeStruct((), jnp.int32),
        "params": params,
        "opt": jax.eval_shape(labelled.init, params),
    }
    of_params = specs(params, mesh, scanned)
    shapes = {jax.tree_util.keystr(k, simple=True, separator="/"): v.shape for k, v in jax.tree.leaves_with_path(state)}
    moments = 0
    for path, spec in specs(state, mesh, scanned).items():
        twin = next((p for p in of_params if path.endswith("/" + p)), None)
        if twin is not None and shapes[path] == shapes["params/" + twin]:
            assert spec == of_params[twin], path
            moments += path.startswith("opt/")
        else:
            assert spec == P(), path
    assert moments >= 4


def test_a_dimension_that_does_not_divide_is_replicated_and_listed():
    mesh = meshes.make(mesh_config(tensor=8))
    listed = {row.path: row for row in rules.describe(trees.params(heads=6, kv_heads=2), mesh, "default", False)}
    q = listed["blocks/0/attention/q/w"]
    assert q.spec == P() and q.note == "6 does not divide over tensor=8"
    assert q.bytes_per_device == 64 * 6 * 16 * 4
    up = listed["blocks/0/mlp/up/w"]
    assert up.spec == P(None, "tensor") and up.note == "" and up.bytes_per_device == 64 * 256 * 4 // 8
    assert listed["norm/scale"].note == ""


def test_bytes_per_device_are_those_of_real_arrays(mesh):
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), trees.params(kv_heads=1))
    placed = jax.device_put(params, rules.shardings(params, mesh, "default", False))
    rows = rules.describe(params, mesh, "default", False)
    for row, leaf in zip(rows, jax.tree.leaves(placed), strict=True):
        assert leaf.addressable_shards[0].data.nbytes == row.bytes_per_device


def test_an_array_that_no_row_fits_is_an_error_that_names_it(mesh):
    tree = {"blocks": {"0": {"attention": {"novelty": {"w": jax.ShapeDtypeStruct((4, 4), jnp.float32)}}}}}
    for call in (rules.shardings, rules.describe):
        with pytest.raises(UserError, match="blocks/0/attention/novelty/w"):
            call(tree, mesh, "default", False)


def test_unknown_tables_and_axes_are_errors(mesh):
    with pytest.raises(UserError, match="no mesh.rules called 'defualt'") as caught:
        rules.shardings(trees.params(), mesh, "defualt", False)
    assert "'default'" in caught.value.fix

    register("mesh.rules", "wrong_axis")(lambda: ((r"", ("rows",)),))
    with pytest.raises(UserError, match="'rows'"):
        rules.shardings(trees.params(), mesh, "wrong_axis", False)


def test_a_table_of_ones_own(mesh):
    @register("mesh.rules", "only_mlp")
    def only_mlp(axis="tensor"):
        return ((r"mlp/up/w$", (None, axis)), (r"", ()))

    found = specs(trees.params(), mesh, table="only_mlp(axis='fsdp')")
    assert found["blocks/0/mlp/up/w"] == P(None, "fsdp")
    assert found["blocks/0/mlp/down/w"] == P()


@pytest.mark.parametrize("sizes", [{"data": 8}, {"fsdp": 8}, {"data": 4, "tensor": 2}, {"fsdp": 4, "tensor": 2}])
def test_parameters_born_sharded_have_the_same_bits_on_every_mesh(sizes):
    # A few kinds of matrices: every random draw costs seconds of compilation.
    whole = trees.params()
    tree = {
        "embed": {"tokens": whole["embed"]["tokens"]},
        "blocks": {"0": {"mlp": {"down": {"w": whole["blocks"]["0"]["mlp"]["down"]["w"]}}}},
    }
    leaves, treedef = jax.tree.flatten(tree)

    def init(key):
        keys = jax.random.split(key, len(leaves))
        return treedef.unflatten(jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True))

    mesh = meshes.make(mesh_config(**sizes))
    born = jax.jit(init, out_shardings=rules.shardings(tree, mesh, "default", False))(jax.random.key(0))
    alone = jax.jit(init)(jax.random.key(0))
    assert born["embed"]["tokens"]["w"].sharding.mesh.shape == mesh.shape
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), born, alone)
