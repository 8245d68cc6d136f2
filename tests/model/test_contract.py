"""What every registered mechanism, position, norm, MLP and block must keep; a new file in the room is found by itself."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax.model import gpt, layout
from tests.model.variants import NAMES, VARIANTS, config, logits, model, parameters, tokens, value_and_grad

every_variant = pytest.mark.parametrize("kind, name", VARIANTS, ids=NAMES)


def test_the_files_of_the_room_are_found():
    assert ("attention", "full") in VARIANTS and ("position", "none") in VARIANTS and ("mlp", "gelu") in VARIANTS


@functools.partial(jax.jit, static_argnums=0)
def reach(c, params, tokens_1T, positions_1T=None, segments_1T=None):
    """|d (a random sum of the logits at t) / d (embedding at s)| summed over channels, [T, S]."""
    table_VD = params["embed"]["tokens"]["w"]
    untied = dataclasses.replace(c, tied=False)

    def outputs(x_TD):
        # Each position gets a row of its own in the table, so that its embedding can be changed alone.
        changed = {**params, "embed": {**params["embed"], "tokens": {"w": x_TD}}, "readout": {"w": table_VD.T}}
        ids_1T = jnp.arange(x_TD.shape[0])[None]
        logits_1TV = model(untied, changed)(ids_1T, positions_1T, segments_1T)
        return logits_1TV[0] @ jax.random.normal(jax.random.key(2), (c.vocab,))

    return jnp.abs(jax.jacrev(outputs)(table_VD[tokens_1T[0]])).sum(-1)


@every_variant
def test_no_token_sees_a_later_one(kind, name):
    c = config(**{kind: name})
    influence_TS = np.asarray(reach(c, parameters(c), tokens(c, 1, 7)))
    assert np.all(influence_TS[np.triu_indices(7, 1)] == 0)
    assert np.all(np.diag(influence_TS) > 0)


@every_variant
def test_cached_equals_full(kind, name):
    c = config(**{kind: name}, scan=False)
    params, tokens_BT = parameters(c), tokens(c, 2, 11)
    expected = np.asarray(logits(c, params, tokens_BT))
    for scan in (False, True):
        cc = config(**{kind: name}, scan=scan)
        live = layout.stack(params, 1) if scan else params
        assert_cached(cc, live, tokens_BT, expected, parts=(5, 1, 4, 1))


def assert_cached(c, params, tokens_BT, expected, parts):
    """Feeds the tokens in parts through a cache that has slots to spare."""
    batch, length = tokens_BT.shape
    cache, start, out = model(c, params).init_cache(batch, length + 4), 0, []
    for part in parts:
        got, cache = extend(
            c, params, tokens_BT[:, start : start + part], cache, start, np.ones((batch, length + 4), bool)
        )
        out.append(np.asarray(got))
        start += part
    assert start == length
    np.testing.assert_allclose(np.concatenate(out, axis=1), expected, atol=3e-5)


@functools.partial(jax.jit, static_argnums=0)
def extend(c, params, part, cache, start, valid_BS):
    m = model(c, params)
    positions_BT = jnp.broadcast_to(start + jnp.arange(part.shape[1]), part.shape)
    x, cache = m.extend(part, cache, start, positions_BT, valid_BS)
    return m.logits(x), cache


@every_variant
def test_packed_documents_are_isolated(kind, name):
    c = config(**{kind: name})
    first, second = tokens(c, 1, 4, seed=1), tokens(c, 1, 6, seed=2)
    packed = np.concatenate([first, second], axis=1)
    positions = np.concatenate([np.arange(4), np.arange(6)])[None]
    segments = np.array([[1] * 4 + [2] * 6])
    got = np.asarray(logits(c, parameters(c), packed, positions, segments))
    alone = [np.asarray(logits(c, parameters(c), part)) for part in (first, second)]
    np.testing.assert_allclose(got, np.concatenate(alone, axis=1), atol=3e-5)
    influence_TS = np.asarray(reach(c, parameters(c), packed, positions, segments))
    assert np.all(influence_TS[4:, :4] == 0) and np.all(influence_TS[:4, 4:] == 0)


@every_variant
def test_scanned_equals_unrolled(kind, name):
    c, scanned = config(**{kind: name}), config(**{kind: name}, scan=True)
    params, tokens_BT = parameters(c), tokens(c, 2, 9)
    value, grads = value_and_grad(c, params, tokens_BT)
    other, stacked = value_and_grad(scanned, layout.stack(params, 1), tokens_BT)
    np.testing.assert_allclose(other, value, rtol=1e-5)
    assert_trees_close(layout.unstack(stacked, 1), grads, 1e-4)


@every_variant
@pytest.mark.parametrize("remat", ["full", "dots"])
def test_remat_changes_nothing(kind, name, remat):
    c = config(**{kind: name}, dropout=0.2)
    keys_B = jax.random.split(jax.random.key(3), 2)
    again = config(**{kind: name}, dropout=0.2, remat=remat)
    value, grads = value_and_grad(c, parameters(c), tokens(c, 2, 9), keys_B)
    other, recomputed = value_and_grad(again, parameters(c), tokens(c, 2, 9), keys_B)
    np.testing.assert_allclose(other, value, rtol=1e-5)
    assert_trees_close(recomputed, grads, 1e-4)


@every_variant
@pytest.mark.parametrize("scan", [False, True])
def test_no_parameter_is_without_effect(kind, name, scan):
    """A bias of k shifts all scores of a query alike, so that softmax removes it: its gradient alone may vanish."""
    c = config(**{kind: name}, scan=scan)
    _, grads = value_and_grad(c, parameters(c), tokens(c, 2, c.context))
    for path, leaf in jax.tree_util.tree_flatten_with_path(grads)[0]:
        assert "k" in {key.key for key in path} or float(jnp.abs(leaf).max()) > 1e-3, jax.tree_util.keystr(path)


@every_variant
def test_dtype_is_the_configs(kind, name):
    c = config(**{kind: name}, dtype="bfloat16")
    full = config(**{kind: name})
    hidden = jax.eval_shape(lambda params: model(c, params).hidden(tokens(c, 1, 5)), parameters(full))
    assert hidden.dtype == jnp.bfloat16
    got, expected = (logits(x, parameters(full), tokens(c, 2, 9)) for x in (c, full))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, atol=0.05 * float(jnp.abs(expected).max()))


@every_variant
def test_initial_values_are_the_same_in_both_layouts(kind, name):
    init = jax.jit(gpt.init, static_argnums=0)
    unrolled = init(config(**{kind: name}), jax.random.key(7))
    scanned = init(config(**{kind: name}, scan=True), jax.random.key(7))
    assert_trees_close(layout.stack(unrolled, 1), scanned, 1e-7)


def test_a_cycle_of_mechanisms_keeps_the_order_of_layers():
    """With two mechanisms the stacked layout interleaves: layer i is at blocks/{i % 2}[i // 2]."""
    c = config(layers=4, attention=("full", "full"))
    params, tokens_BT = parameters(c), tokens(c, 2, 9)
    stacked = layout.stack(params, 2)
    np.testing.assert_array_equal(stacked["blocks"]["1"]["mlp"]["up"]["w"][1], params["blocks"]["3"]["mlp"]["up"]["w"])
    scanned = config(layers=4, attention=("full", "full"), scan=True)
    np.testing.assert_allclose(logits(scanned, stacked, tokens_BT), logits(c, params, tokens_BT), atol=2e-5)
    assert_cached(scanned, stacked, tokens_BT, np.asarray(logits(c, params, tokens_BT)), parts=(4, 1, 4))


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
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_flatten_with_path(got)[0], jax.tree.leaves(expected), strict=True):
        scale = float(jnp.abs(b).max()) + 1e-3
        np.testing.assert_allclose(a, b, atol=relative * scale, err_msg=jax.tree_util.keystr(path))
