"""Adapters: the base at first, right in every variant and layout, and nothing else trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.errors import UserError
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import rules
from gpt_jax.model import init as initial
from gpt_jax.model import layout
from gpt_jax.model.matrices import matrices
from gpt_jax.train.optimizers.matrices import is_hidden_matrix, is_vector
from gpt_jax.train.step import hyper_scalars, init_state, make_program
from gpt_jax.tree_paths import map_with_path, path_of
from tests.model import variants
from tests.train import tiny
from tests.train.adapted import ADAPTERS, at, build, logits, shaken

KINDS = ("attention", "mlp", "block")
VARIANTS = [(kind, call) for kind, call in variants.VARIANTS if kind in KINDS]
# One of every way that a weight is used; python -m tests.train.every_adapter runs all.
SAMPLE = [
    ("attention", "full(qk_norm='l2', gate=True, head_scale=True)", "lora(rank=2)"),
    ("attention", "latent(rank=6, q_rank=4)", "dora(rank=2)"),
    ("mlp", "moe(experts=4, activation='relu', router='sigmoid', shared=1, bias_balance=True)", "dora(rank=2)"),
]
KEY = jax.random.key(3)


def leaves(tree) -> dict[str, np.ndarray]:
    return {path_of(keys): np.asarray(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def same(a, b) -> bool:
    a, b = leaves(a), leaves(b)
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


@pytest.mark.every(4)
@pytest.mark.parametrize("kind, call", VARIANTS)
def test_every_variant_starts_as_the_base_and_trains_every_matrix(kind, call):
    """To the bit; every linear layer of a block is changed, and no other parameter."""
    c = variants.config(**{kind: call}, scan=kind == "mlp")
    base, adapter = variants.parameters(c), build("dora(rank=2)")

    def both(base):
        trained = adapter.init(base, c, KEY)
        return trained, adapter.apply(base, trained)

    trained, found = jax.jit(both)(base)
    assert same(found, base)
    changed = {path.rpartition("/")[0].replace("blocks/1/", "blocks/0/") for path in leaves(trained)}
    assert changed == {path for path in matrices(c) if path.startswith("blocks/") and "router" not in path}
    rules.shardings(trained, meshes.make(tiny.config().mesh), "default", bool(c.scan))
    for path, leaf in leaves(trained).items():
        assert is_vector(path, leaf, bool(c.scan)) == path.endswith("magnitude")


@pytest.mark.parametrize("call", ADAPTERS)
def test_every_adapter_starts_as_the_base(call):
    """As the same numbers, though init and apply are compiled apart."""
    c = variants.config()
    base, adapter = variants.parameters(c), build(call)
    trained = jax.jit(adapter.init, static_argnums=1)(base, c, KEY)
    assert same(jax.jit(adapter.apply)(base, trained), base)
    assert not same(jax.jit(adapter.apply)(base, shaken(trained)), base)


@pytest.mark.parametrize("kind, call, adapter", SAMPLE)
def test_merged_is_unmerged(kind, call, adapter):
    check_merged(kind, call, adapter)


def check_merged(kind, call, adapter):
    c = variants.config(**{kind: call}, layers=1)
    base, adapter = variants.parameters(c), build(adapter)
    trained, tokens_BT = shaken(adapter.init(base, c, KEY)), variants.tokens(c, 2, 10)
    with jax.enable_x64(True):
        c = dataclasses.replace(c, dtype="float64")
        base, trained = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (base, trained))
        merged = adapter.apply(base, trained)
        found = np.asarray(variants.logits(c, merged, tokens_BT))
        expected = np.asarray(logits(c, adapter, base, trained, tokens_BT))
        assert np.abs(found - variants.logits(c, base, tokens_BT)).max() > 1e-2
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("cycle", ["full", ("full", "sliding(window=3)")])
def test_both_layouts_start_alike(cycle):
    """From the same numbers, which are other ones in every layer and matrix."""
    c, s = (variants.config(layers=4, attention=cycle, scan=scan) for scan in (False, True))
    base, period = variants.parameters(c), len(c.attentions)
    adapter = build("dora(rank=2, full='norm|embed')")
    start = jax.jit(adapter.init, static_argnums=1)
    unrolled, stacked = start(base, c, KEY), start(layout.stack(base, period), s, KEY)
    assert same(layout.stack(unrolled, period), stacked) and same(layout.unstack(stacked, period), unrolled)
    moved = shaken(unrolled)
    merged = layout.stack(jax.jit(adapter.apply)(base, moved), period)
    again = jax.jit(adapter.apply)(layout.stack(base, period), layout.stack(moved, period))
    for path, leaf in leaves(merged).items():
        np.testing.assert_allclose(leaf, leaves(again)[path], atol=1e-6, err_msg=path)
    drawn = [leaf.ravel()[:8] for path, leaf in leaves(unrolled).items() if path.endswith("lora_a")]
    assert len({tuple(numbers) for numbers in drawn}) == len(drawn)


def test_a_starts_uniform_within_its_inputs():
    c = variants.config(width=64, heads=4, head_dim=16, mlp_width=16)
    trained = build("lora(rank=16)").init(variants.parameters(c), c, KEY)
    out = np.asarray(trained["blocks"]["0"]["attention"]["out"]["w"]["lora_a"])  # [N, H, rank]
    assert out.shape == (4, 16, 16) and abs(np.abs(out).max() - 64**-0.5) < 2e-3
    assert abs(out.std() - 64**-0.5 / 3**0.5) < 5e-3 and abs(out.mean()) < 5e-3
    assert np.abs(np.asarray(trained["blocks"]["0"]["mlp"]["down"]["w"]["lora_a"])).max() > 0.2


def test_leaves_are_split_as_their_weights_are():
    c = variants.config(mlp="moe(experts=4, shared=1)", width=16, kv_heads=4, mlp_width=16, vocab=36, tied=False)
    sizes = [2 if axis in ("fsdp", "tensor", "expert") else 1 for axis in meshes.AXES]
    mesh = jax.make_mesh(sizes, meshes.AXES, axis_types=meshes.TYPES)
    for scan in (False, True):
        c = variants.config(**{**vars(c), "scan": scan})
        trained = build("dora(rank=2, matrices='w$')").init(variants.parameters(c), c, KEY)
        placed = rules.shardings(trained, mesh, "default", scan)
        block, lead = placed["blocks"]["0"], (None,) * scan
        specs = {
            ("attention", "q", "w"): [("fsdp",), (None, "tensor"), ("tensor",)],
            ("attention", "out", "w"): [("tensor",), (None, "fsdp"), ("fsdp",)],
            ("mlp", "shared", "up", "w"): [("fsdp",), (None, "tensor"), ("tensor",)],
            ("mlp", "experts", "down", "w"): [("expert", "tensor"), ("expert", None, "fsdp"), ("expert", "fsdp")],
        }
        for path, wanted in specs.items():
            found = at(block, "/".join(path))
            assert [tuple(found[name].spec) for name in ("lora_a", "lora_b", "magnitude")] == [
                (*lead, *spec) for spec in wanted
            ], path
        assert tuple(placed["readout"]["w"]["lora_b"].spec) == (None, "tensor")


def test_optimizers_know_the_roles():
    c = variants.config(width=32, heads=4, head_dim=8, init="mup(base_width=8)")
    trained = build("dora(rank=2)").init(variants.parameters(c), c, KEY)
    hidden = jax.tree_util.tree_map_with_path(lambda path, leaf: is_hidden_matrix(path, leaf, False), trained)
    q = hidden["blocks"]["0"]["attention"]["q"]["w"]
    assert q == {"lora_a": True, "lora_b": True, "magnitude": False}
    scheme = initial.scheme(c)
    rates = map_with_path(lambda path, _: scheme.lr(initial.role_of(path), "adamw"), trained)
    assert rates["blocks"]["0"]["mlp"]["up"]["w"] == {"lora_a": 0.25, "lora_b": 1.0, "magnitude": 1.0}
    assert scheme.lr(initial.role_of("blocks/0/mlp/up/w/lora_a"), "muon") == 0.25


def trained_for(c, steps: int = 3, devices: int = 1, **mesh):
    """Losses, the last state in the stacked layout, and the program."""
    program = tiny.program(c, devices, **mesh)
    plain = tiny.config(**{f"model__{name}": value for name, value in vars(c.model).items()})
    base = init_state(plain, jax.random.key(7))["params"]
    base = jax.device_put(base, jax.tree.map(lambda leaf: leaf.sharding, program.model))
    state, losses = program.init(0, base), []
    hyper = {**hyper_scalars(c), "fixed": {"base": base}}
    for batch in tiny.batches(1, rows=8) * steps:
        state, metrics = program.step(state, batch, hyper)
        losses.append(float(metrics["loss"]))
    return losses, program.stack(state), program


TUNED = dict(
    model__layers=2, optim__lr=3e-2, optim__schedule="constant", optim__warmup=0, tune__start="x", train__batch=8
)


@pytest.mark.slow
def test_layouts_and_devices_train_alike():
    """And only what the adapter trains is in the state."""
    settings = TUNED | dict(tune__adapter="dora(rank=2, full='^norm')", optim__optimizer="muon", train__accumulate=2)
    c = tiny.config(**settings)
    losses, state, _ = trained_for(c)
    assert losses[-1] < losses[0] - 1e-2
    counted = sum(leaf.size for leaf in jax.tree.leaves(state["params"]))
    per_layer = 2 * (4 * (16 + 16) + 2 * (16 + 64)) + 4 * 16 + 64 + 16  # ranks of six matrices, and their norms
    assert counted == 2 * per_layer + 32
    statistics = [leaf for leaf in jax.tree.leaves(state["opt"]) if leaf.ndim > 1]
    assert sum(leaf.size for leaf in statistics) <= 2 * counted
    scanned, other, _ = trained_for(tiny.config(**settings, model__scan=True))
    split, spread, _ = trained_for(c, devices=8, data=2, fsdp=2, tensor=2)
    for found, end in ((scanned, other), (split, spread)):
        np.testing.assert_allclose(found, losses, rtol=1e-5)
        for path, leaf in leaves(end["params"]).items():
            np.testing.assert_allclose(leaf, leaves(state["params"])[path], atol=2e-4, err_msg=path)


def test_a_tuned_embedding_or_readout():
    """A table's A starts at 0; with tied weights the change is the readout's, too; no parameter is in a block."""
    c = tiny.config(**TUNED | dict(tune__adapter="lora(rank=2, matrices='embed')", optim__lr=1e-3))
    losses, state, program = trained_for(c)
    assert losses[-1] < losses[0] - 1e-3 and set(leaves(state["params"])) == {
        "embed/tokens/w/lora_a",
        "embed/tokens/w/lora_b",
    }


@pytest.mark.parametrize(
    "call, said",
    [
        ("lora(matrices='attention/(x')", "no regular expression"),
        ("lora(matrices='blocks/3/attention')", "blocks/attention/q/w"),
        ("lora(matrices='norm')", "matches no parameter"),
        ("lora(full='embedding')", "embed/tokens/w"),
        ("lora(rank=0)", "rank"),
        ("lora(alpha=0)", "alpha"),
        ("lora(rnak=2)", "rank"),
    ],
)
def test_what_matches_nothing_is_refused(call, said):
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        make_program(tiny.config(**TUNED, tune__adapter=call), meshes.make(tiny.config().mesh))


def test_float64_stays_float64():
    with jax.enable_x64(True):
        base = {"blocks": {"0": {"mlp": {"up": {"w": jnp.ones((16, 24), jnp.float64)}}}}}
        trained = build("dora(rank=2)").init(base, variants.config(layers=1), KEY)
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(build("dora(rank=2)").apply(base, trained))} == {"float64"}
