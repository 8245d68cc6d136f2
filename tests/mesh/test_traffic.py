"""What is counted of a program's collectives: as its text says, and as the closed forms of each axis say."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from gpt_jax import registry
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.context_strategy import strategy_of
from gpt_jax.mesh.planning.traffic import Collective, by_axes, collectives
from gpt_jax.mesh.spread import split_of
from gpt_jax.model.where import Where
from tests.mesh.sizes import mesh_config
from tests.model import variants
from tests.model.test_attend import Case, arrays, run, spec

MESH = {"data": 2, "fsdp": 2, "tensor": 2}
PROGRAM = """
HloModule jit_step

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %p = (s32[], f32[4,8]{1,0}) parameter(0)
  %x = f32[4,8]{1,0} get-tuple-element(%p), index=1
  %sent = f32[4,8]{1,0} collective-permute(%x), channel_id=1, source_target_pairs={{0,2},{2,0},{1,3},{3,1}}
  %n = s32[] get-tuple-element(%p), index=0
  ROOT %out = (s32[], f32[4,8]{1,0}) tuple(%n, %sent)
}

%summed (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

ENTRY %main (w: f32[4,8], v: bf16[16]) -> f32[4,8] {
  %w = f32[4,8]{1,0} parameter(0)
  %v = bf16[16]{0} parameter(1)
  %t = (s32[], f32[4,8]{1,0}) tuple(%w, %w)
  %loop = (s32[], f32[4,8]{1,0}) while(%t), condition=%summed, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %start = (bf16[16]{0}, bf16[64]{0}) all-gather-start(%v), replica_groups=[2,4]<=[2,2,2]T(2,0,1), dimensions={0}
  %gathered = bf16[64]{0} all-gather-done(%start)
  %reduced = (f32[4,8]{1,0}, f32[]) all-reduce(%w, %n), replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%summed
  %all = f32[4,8]{1,0} all-reduce(%w), replica_groups={}, to_apply=%summed, metadata={op_name="jit(step)/mlp"}
  %scattered = f32[2,8]{1,0} reduce-scatter(%w), replica_groups=[4,2]<=[2,4]T(1,0), dimensions={0}, to_apply=%summed
  %alone = f32[4,8]{1,0} all-reduce(%w), replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}, to_apply=%summed
  ROOT %exchanged = (f32[2,8]{1,0}, f32[2,8]{1,0}) all-to-all(%w, %w), replica_groups={{0,4},{1,5},{2,6},{3,7}}
}
"""


# How a TPU's compiler writes it: turns in the condition, an all-gather that fusions overlap with, a fused reduce-scatter.
OF_A_TPU = """
HloModule jit_step

%until (p: (s32[], f32[4,8])) -> pred[] {
  %count = s32[]{:T(128)} constant(5)
  %p = (s32[], f32[4,8]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%n, %count), direction=LT
}

%begins (w: f32[4,8]) -> f32[4,32] {
  %w = f32[4,8]{1,0} parameter(0)
  %g = f32[4,32]{1,0} all-gather(%w), channel_id=7, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={1}
  ROOT %s = f32[4,32]{1,0} custom-call(%g), custom_call_target="AsyncCollectiveStart"
}

%ends (w: f32[4,8]) -> f32[4,32] {
  %w = f32[4,8]{1,0} parameter(0)
  %g = f32[4,32]{1,0} all-gather(%w), channel_id=7, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={1}
  ROOT %s = f32[4,32]{1,0} custom-call(%g), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.2 (w: f32[4,8]) -> f32[2,8] {
  %w = f32[4,8]{1,0} parameter(0)
  %r = f32[4,8]{1,0} all-reduce(%w), channel_id=9, replica_groups={{0,4},{1,5},{2,6},{3,7}}, to_apply=%add
  ROOT %d = f32[2,8]{1,0} dynamic-slice(%r, %zero, %zero), dynamic_slice_sizes={2,8}
}

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %p = (s32[], f32[4,8]{1,0}) parameter(0)
  %x = f32[4,8]{1,0} get-tuple-element(%p), index=1
  %a = f32[4,32]{1,0} fusion(%x), kind=kCustom, calls=%begins
  %b = f32[4,32]{1,0} fusion(%x), kind=kCustom, calls=%ends
  %c = f32[2,8]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.2
  ROOT %out = (s32[], f32[4,8]{1,0}) tuple(%n, %x)
}

ENTRY %main (w: f32[4,8]) -> f32[4,8] {
  %w = f32[4,8]{1,0} parameter(0)
  %t = (s32[], f32[4,8]{1,0}) tuple(%w, %w)
  ROOT %loop = (s32[], f32[4,8]{1,0}) while(%t), condition=%until, body=%body
}
"""


def test_a_tpu_s_program_is_read():
    assert collectives(OF_A_TPU, MESH) == [
        Collective("all-gather", ("fsdp", "tensor"), 4 * 32 * 4 * 3 / 4, 5, ""),
        Collective("reduce-scatter", ("data",), 64, 5, ""),
    ]


def test_bytes_axes_and_turns_are_read():
    assert collectives(PROGRAM, MESH) == [
        Collective("collective-permute", ("fsdp",), 128, 5, ""),
        Collective("all-gather", ("data", "fsdp"), 96, 1, ""),
        Collective("all-reduce", ("tensor",), 132, 1, ""),
        Collective("all-reduce", ("data", "fsdp", "tensor"), 2 * 128 * 7 / 8, 1, "jit(step)/mlp"),
        Collective("reduce-scatter", ("data",), 64, 1, ""),
        Collective("all-to-all", ("data",), 64, 1, ""),
    ]


ONE = """
ENTRY %main (w: f32[4]) -> f32[32] {{
  %w = f32[4]{{0}} parameter(0)
  ROOT %gathered = f32[32]{{0}} all-gather(%w), replica_groups={groups}, dimensions={{0}}
}}
"""


@pytest.mark.parametrize(
    "groups, axes",
    [
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_1'}", ("tensor",)),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", ("data", "fsdp")),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_0':(1)2}", ("data",)),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_0':(2)2}", ("fsdp",)),
        ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}", ("tensor",)),
        ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}", ("data", "fsdp")),
        ("mesh['axis_0'=2,'axis_1'=2,'axis_2'=2] {'axis_0','axis_2'}", ("data", "tensor")),
    ],
)
def test_groups_are_read_where_they_are_axes_of_a_mesh(groups, axes):
    (found,) = collectives(ONE.format(groups=groups), MESH)
    assert found.axes == axes


def test_groups_in_an_unknown_form_are_no_group_of_all():
    with pytest.raises(ValueError, match="cannot be read"):
        collectives(ONE.format(groups="every-other"), MESH)


def test_equal_kinds_over_equal_axes_add_up():
    sums = by_axes(collectives(PROGRAM, MESH))
    assert sums[("fsdp",), "collective-permute"] == 640 and len(sums) == 6


# Of attention with keys and values of S bytes a device each, queries of Q and c parts: forward and backward. (Two parts of a
# ring send less: there is one hop, and XLA keeps for the backward pass what it brought.)
FORMS = {
    "ring": lambda s, q, c: (c - 1) * (2 + 4) * s,
    "gather": lambda s, q, c: (c - 1) * (2 + 2) * s,
    "ulysses": lambda s, q, c: (c - 1) / c * (4 * q + 4 * s),  # kv heads that divide
}


@pytest.mark.parametrize("strategy", FORMS)
@pytest.mark.parametrize("parts", [4, 8])
def test_attention_over_split_texts_sends_what_its_closed_form_says(strategy, parts):
    config = mesh_config(data=8 // parts, context=parts, context_strategy=strategy)
    mesh = meshes.make(config)
    rows, heads, kv_heads, length, width = 8 // parts, 16, 8, 64, 8
    case = Case(spec(), (rows, heads, kv_heads, length, length), where=Where(spread=split_of(mesh, config).spread))
    sharding = NamedSharding(mesh, PartitionSpec(meshes.BATCH_AXES, None, "context"))
    shapes = {name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding) for name, a in arrays(case).items()}

    @functools.partial(jax.jit, out_shardings=sharding)
    @jax.grad
    def gradients(given):
        return (run("auto", case, given) ** 2).sum()

    with jax.set_mesh(mesh):
        text = gradients.lower(shapes).compile().as_text()
    sent = sum(size for (axes, _), size in by_axes(collectives(text, mesh.shape)).items() if axes == ("context",))
    keys, queries = (n * length // parts * width for n in (kv_heads, heads))
    form = FORMS[strategy](4 * keys, 4 * queries, parts)
    assert sent == pytest.approx(form, rel=0.05)
    assert strategy_of(config).sent(parts, queries, keys, 4, 0) == form  # what plans go by


def test_gradients_of_a_split_batch_are_summed_once():
    mesh = meshes.make(mesh_config(data=8))
    x_BD, w_DF = np.ones((16, 32), np.float32), np.ones((32, 64), np.float32)
    given = jax.device_put(x_BD, meshes.batch_sharding(mesh))
    whole = NamedSharding(mesh, PartitionSpec())
    compiled = jax.jit(jax.grad(lambda w, x: ((x @ w) ** 2).sum()), out_shardings=whole).lower(w_DF, given).compile()
    found = by_axes(collectives(compiled.as_text(), mesh.shape))
    assert found == {(("data",), "all-reduce"): 2 * 4 * 32 * 64 * 7 / 8}


# Of T tokens a device, each for k of E experts of which a device has E / n, what an exchange has room for: dropless, for all
# that can come; with a capacity c, for c k T.
ROOM = {
    "moe(experts=16, top_k=2)": lambda tokens, n: n * tokens * min(2, 16 // n),
    "moe(experts=16, top_k=2, capacity=1.5)": lambda tokens, n: 1.5 * 2 * tokens,
}


@pytest.mark.parametrize("call", ROOM)
@pytest.mark.parametrize("parts", [4, 8])
def test_experts_exchange_what_their_closed_form_says(call, parts):
    config = mesh_config(data=8 // parts, expert=parts)
    mesh = meshes.make(config)
    model, (rows, length, width) = variants.config(mlp=call), (8, 64, 16)
    mixture = nnx.eval_shape(lambda: registry.build("model.mlp", call, model, nnx.Rngs(params=0)))
    where = Where(spread=split_of(mesh, config).spread)
    x_BTD = jax.ShapeDtypeStruct((rows, length, width), "float32", sharding=meshes.batch_sharding(mesh))

    def loss(mixture, x_BTD):
        return (mixture(x_BTD, where)[0] ** 2).sum()

    with jax.set_mesh(mesh):
        text = jax.jit(jax.grad(loss, argnums=1)).lower(mixture, x_BTD).compile().as_text()
    sent = by_axes(collectives(text, mesh.shape))[("expert",), "all-to-all"]
    tokens = rows * length // 8
    room = ROOM[call](tokens, parts)
    assert sent == pytest.approx(4 * room * width * 4 * (parts - 1) / parts, rel=0.1)
