"""What every registered mechanism, position, norm, MLP and block must keep; a new file in the room is found by itself."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.model import gpt, layout
from gpt_jax.model.attend import backend
from tests.model.variants import (
    KINDS,
    NAMES,
    VARIANTS,
    calls,
    config,
    has_backend,
    logits,
    model,
    parameters,
    terms_and_grad,
    tokens,
)

# What is carried from layer to layer, or shared by them; norms and feed-forward networks are neither.
THROUGH_LAYERS = [v for v in VARIANTS if v[0] in ("attention", "block", "position") or v[1].startswith("moe")]
every_variant = pytest.mark.parametrize("kind, name", VARIANTS, ids=NAMES)
# Batches have one shape, [LENGTH, LENGTH], as long as nothing speaks against it: each shape is a program to compile.
LENGTH = 10


def test_the_files_of_the_room_are_found():
    assert ("attention", "full") in VARIANTS and ("position", "none") in VARIANTS and ("mlp", "gelu") in VARIANTS


@pytest.mark.every(4)
@every_variant
def test_no_token_sees_a_later_one(kind, name):
    """Row s of the batch has token s changed: its logits before s stay as they were, those at s do not."""
    c = config(**{kind: name})
    row_T = tokens(c, 1, LENGTH)[0]
    changed_TT = np.where(np.eye(LENGTH, dtype=bool), (row_T + 1) % c.vocab, row_T).astype(np.int32)
    moved_TT = influence(c, changed_TT, row_T)
    assert np.all(moved_TT[np.tril_indices(LENGTH, -1)] == 0)
    assert np.all(np.diag(moved_TT) > 1e-4)


def influence(c, changed_ST, row_T, *packing):
    """How far the logits at t move where row s replaces the tokens, [S, T]."""
    apart = [np.broadcast_to(a, changed_ST.shape) for a in packing]
    before = np.asarray(logits(c, parameters(c), np.broadcast_to(row_T, changed_ST.shape), *apart))
    return np.abs(np.asarray(logits(c, parameters(c), changed_ST, *apart)) - before).max(-1)


@pytest.mark.every(4)
@every_variant
def test_cached_equals_full(kind, name):
    c = config(**{kind: name})
    tokens_BT = tokens(c, LENGTH, LENGTH)
    if "cache" not in backend(c.attend).can:
        with pytest.raises(UserError, match="cannot do cached decoding"):
            model(c, parameters(c)).extend(
                tokens_BT,
                model(c, parameters(c)).init_cache(LENGTH, LENGTH),
                0,
                np.arange(LENGTH)[None].repeat(LENGTH, 0),
            )
        return
    expected = np.asarray(logits(c, parameters(c), tokens_BT))
    assert_cached(c, parameters(c), tokens_BT[:2], expected[:2], parts=(4, 1, 4, 1))


def test_every_variant_has_examples():
    """A variant with arguments that have no default is tested as its file says."""
    names = [(f"model.{kind}", name) for kind in KINDS for name in registry.names(f"model.{kind}")]
    silent = [name for kind, name in names if not registry.examples(kind, name)]
    assert not silent, f"these have arguments without a default: give @register(…) examples=('{silent[0]}(…=…)',)"


@pytest.mark.every(4)
@pytest.mark.parametrize("call", [c for c in calls("attend") if c not in ("reference", "auto")])
@pytest.mark.parametrize("mechanism", [c for c in calls("attention") if has_backend(c)])
def test_every_backend_computes_a_mechanism_or_refuses_it(mechanism, call):
    """At a length at which every backend works block by block, and skips the blocks that its limits hide."""
    c = config(attention=mechanism, attend=call, position="sinusoidal", layers=1)
    tokens_BT = tokens(c, 2, 40)
    try:
        got = logits(c, parameters(c), tokens_BT)
    except UserError as refusal:
        assert "cannot do" in refusal.what
        return
    expected = np.asarray(logits(dataclasses.replace(c, attend="reference"), parameters(c), tokens_BT))
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.every(4)
@pytest.mark.parametrize("kind, name", [v for v in VARIANTS if v[0] in ("attention", "block")])
def test_cached_equals_full_when_scanned(kind, name):
    unrolled, c = config(**{kind: name}), config(**{kind: name}, scan=True)
    tokens_BT = tokens(c, LENGTH, LENGTH)
    expected = np.asarray(logits(unrolled, parameters(unrolled), tokens_BT))[:2]
    assert_cached(c, stack(parameters(unrolled), 1), tokens_BT[:2], expected, parts=(5, 5))


stack = jax.jit(layout.stack, static_argnums=1)


def assert_cached(c, params, tokens_BT, expected, parts):
    """Feeds the tokens in parts through a cache that has slots to spare; the second row is padded on the left."""
    batch, length = tokens_BT.shape
    pads_B = np.arange(batch) * 3
    width = length + pads_B.max() + 2
    padded = np.stack([np.pad(row, (pad, 0))[:length] for row, pad in zip(tokens_BT, pads_B, strict=True)])
    cache, start, out = model(c, params).init_cache(batch, width), 0, []
    for part in parts:
        slots = start + np.arange(part)
        got, cache = extend(c, params, padded[:, slots], cache, start, np.maximum(slots - pads_B[:, None], -1))
        out.append(np.asarray(got))
        start += part
    assert start == length
    for row, pad in enumerate(pads_B):
        got_TV = np.concatenate(out, axis=1)[row, pad:]
        np.testing.assert_allclose(got_TV, expected[row, : length - pad], atol=3e-5)


@functools.partial(jax.jit, static_argnums=0)
def extend(c, params, part, cache, start, positions_BT):
    m = model(c, params)
    x, cache = m.extend(part, cache, start, positions_BT)
    return m.logits(x), cache


@pytest.mark.every(4)
@every_variant
def test_packed_documents_are_isolated(kind, name):
    c = config(**{kind: name})
    first, second = tokens(c, 1, 4, seed=1), tokens(c, 1, 6, seed=2)
    packed_T = np.concatenate([first, second], axis=1)[0]
    packing = np.concatenate([np.arange(4), np.arange(6)])[None], np.array([[1] * 4 + [2] * 6])
    if "segments" not in backend(c.attend).can:
        with pytest.raises(UserError, match="cannot do packed documents"):
            model(c, parameters(c))(packed_T[None], *packing)
        return
    rows_ST = np.where(np.eye(10, dtype=bool), (packed_T + 1) % c.vocab, packed_T).astype(np.int32)
    moved_ST = influence(c, rows_ST, packed_T, *packing)
    assert moved_ST[:4, 4:].max() < 2e-6 and moved_ST[4:, :4].max() < 2e-6  # what rounding may carry over
    same = [np.broadcast_to(a, (10, 10)) for a in (packed_T, *packing)]
    got = np.asarray(logits(c, parameters(c), *same))
    # Alone, each document is followed by tokens that it cannot see, so that both have the length of the whole.
    alone = [np.pad(part, ((0, 9), (0, 10 - part.shape[1])), mode="edge") for part in (first, second)]
    expected = [np.asarray(logits(c, parameters(c), part))[0] for part in alone]
    np.testing.assert_allclose(got[0, :4], expected[0][:4], atol=3e-5)
    np.testing.assert_allclose(got[0, 4:], expected[1][:6], atol=3e-5)


@pytest.mark.every(4)
@pytest.mark.parametrize("kind, name", THROUGH_LAYERS)
def test_scanned_equals_unrolled(kind, name):
    c, scanned = config(**{kind: name}), config(**{kind: name}, scan=True)
    params, tokens_BT = parameters(c), tokens(c, 2, LENGTH)
    terms, grads = terms_and_grad(c, params, tokens_BT)
    other, stacked = terms_and_grad(scanned, stack(params, 1), tokens_BT)
    np.testing.assert_allclose(other, terms, rtol=1e-5)
    assert_trees_close(stacked, stack(grads, 1), 1e-4)
    assert_all_count(grads)


@pytest.mark.every(3)
@pytest.mark.parametrize("kind, name", [v for v in VARIANTS if v not in THROUGH_LAYERS])
def test_no_parameter_is_without_effect(kind, name):
    c = config(**{kind: name}, layers=1)
    assert_all_count(terms_and_grad(c, parameters(c), tokens(c, 2, LENGTH))[1])


def assert_all_count(grads):
    """No parameter is without effect. A bias of k shifts all scores of a query alike, so that softmax removes it: its
    gradient alone may vanish."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(grads)[0]:
        names = [str(key.key) for key in path]
        assert names[-2:] == ["k", "bias"] or np.abs(leaf).max() > 1e-7, jax.tree_util.keystr(path)


@pytest.mark.every(3)
@pytest.mark.parametrize("remat", [name for name in registry.names("model.remat") if name != "none"])
def test_remat_changes_nothing(remat):
    assert_remat({}, remat)


@pytest.mark.every(4)
@pytest.mark.parametrize("kind, name", [v for v in THROUGH_LAYERS if "(" not in v[1] and v[0] != "position"])
def test_remat_of_every_variant(kind, name):
    assert_remat({kind: name}, "full")


def assert_remat(changes, remat):
    plain = dict(dropout=0.2) if not refuses_dropout(changes) else {}
    c, again = config(**changes, **plain), config(**changes, **plain, remat=remat)
    keys_B = jax.random.split(jax.random.key(3), 2)
    terms, grads = terms_and_grad(c, parameters(c), tokens(c, 2, LENGTH), keys_B)
    other, recomputed = terms_and_grad(again, parameters(c), tokens(c, 2, LENGTH), keys_B)
    np.testing.assert_allclose(other, terms, rtol=1e-5)
    assert_trees_close(recomputed, grads, 1e-4)


def refuses_dropout(changes):
    return "dropout" in backend(changes.get("attend", "auto")).refusal(frozenset({"dropout"}))


@pytest.mark.every(4)
@every_variant
def test_dtype_is_the_configs(kind, name):
    c, full = config(**{kind: name}, dtype="bfloat16"), config(**{kind: name})
    params = parameters(full)
    hidden, _ = jax.eval_shape(lambda params: model(c, params).hidden(tokens(c, 1, 5)), params)
    assert hidden.dtype == jnp.bfloat16
    got, expected = (logits(x, params, tokens(c, LENGTH, LENGTH))[:2] for x in (c, full))
    assert got.dtype == jnp.float32
    # In bfloat16 a token may pass another expert where two are nearly as likely: a few rows are far off then.
    off_BT = np.abs(got - expected).max(-1) / float(jnp.abs(expected).max())
    assert np.quantile(off_BT, 0.7 if "moe" in name else 1.0) < 0.05


@every_variant
def test_initial_values_are_the_same_in_both_layouts(kind, name):
    unrolled = jax.eval_shape(functools.partial(gpt.init, config(**{kind: name})), jax.random.key(7))
    scanned = jax.eval_shape(functools.partial(gpt.init, config(**{kind: name}, scan=True)), jax.random.key(7))
    assert jax.eval_shape(lambda tree: layout.stack(tree, 1), unrolled) == scanned


@pytest.mark.parametrize("changes", [{}, {"attention": "gated_delta", "mlp": "moe", "tied": False}])
def test_both_layouts_start_from_the_same_values(changes):
    init = jax.jit(gpt.init, static_argnums=0)
    unrolled = init(config(**changes), jax.random.key(7))
    scanned = init(config(**changes, scan=True), jax.random.key(7))
    assert_trees_close(layout.stack(unrolled, 1), scanned, 1e-7)


def test_a_cycle_of_mechanisms_keeps_the_order_of_layers():
    """With two mechanisms the stacked layout interleaves: layer i is at blocks/{i % 2}[i // 2]."""
    c = config(layers=4, attention=("full", "full"))
    params, tokens_BT = parameters(c), tokens(c, 2, 9)
    stacked = layout.stack(params, 2)
    np.testing.assert_array_equal(stacked["blocks"]["1"]["mlp"]["up"]["w"][1], params["blocks"]["3"]["mlp"]["up"]["w"])
    scanned = config(layers=4, attention=("full", "full"), scan=True)
    np.testing.assert_allclose(logits(scanned, stacked, tokens_BT), logits(c, params, tokens_BT), atol=2e-5)
    assert_cached(scanned, stacked, tokens_BT, np.asarray(logits(c, params, tokens_BT)), parts=(4, 5))


def test_layouts_round_trip_within_any_tree():
    params = parameters(config(layers=4))
    tree = {"params": params, "opt": ({"mu": params}, jnp.int32(3))}
    for period in (1, 2, 4):
        again = layout.unstack(layout.stack(tree, period), period)
        assert jax.tree.structure(again) == jax.tree.structure(tree)
        assert all(map(np.array_equal, jax.tree.leaves(again), jax.tree.leaves(tree)))


def test_a_module_is_its_graphdef_and_a_dict():
    c = config()
    graphdef, state = nnx.split(gpt.GPT(c, nnx.Rngs(params=jax.random.key(0))))
    assert graphdef == gpt.graphdef(c)
    assert_trees_close(nnx.to_pure_dict(state), gpt.init(c, jax.random.key(0)), 0)


def assert_trees_close(got, expected, relative):
    """Up to a share of each leaf's largest value. Softmax removes what a bias of k adds, so that this bias's gradient is
    rounding alone: it is held against 0.1."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_flatten_with_path(got)[0], jax.tree.leaves(expected), strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        scale = np.abs(b).max() + (0.1 if name.endswith("attention/k/bias") else 1e-3)
        np.testing.assert_allclose(a, b, atol=relative * scale, err_msg=name)
