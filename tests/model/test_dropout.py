"""Dropout: rate and scale, and masks that depend on an example's own key alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gpt_jax.model.where import Where, dropout
from tests.model.variants import config, logits, parameters, tokens

C = config(dropout=0.3)


def run(params, tokens_BT, keys_B):
    return logits(C, params, tokens_BT, None, None, keys_B)


def test_rate_and_scale():
    keys_B = jax.random.split(jax.random.key(0), 8)
    kept = np.asarray(dropout(jnp.ones((8, 100, 100)), 0.3, keys_B, 0))
    assert set(np.unique(kept)) == {0, np.float32(1 / 0.7)}
    share = (kept == 0).mean()
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / kept.size)


def test_sites_layers_and_examples_draw_apart():
    keys_B = jax.random.split(jax.random.key(0), 2)
    x = jnp.ones((2, 500))
    where = Where(keys_B=keys_B)
    masks = [
        dropout(x, 0.5, where.for_layer(layer).keys_B, site)[b] for layer in (0, 1) for site in (0, 1) for b in (0, 1)
    ]
    bits = np.asarray(masks) > 0
    agreement = [(a == b).mean() for i, a in enumerate(bits) for b in bits[:i]]
    assert max(agreement) < 0.65 and min(agreement) > 0.35


def test_a_mask_does_not_depend_on_the_other_examples():
    params, tokens_BT = parameters(C), tokens(C, 4, 9)
    keys_B = jax.random.split(jax.random.key(3), 4)
    together = run(params, tokens_BT, keys_B)
    for rows in ([2], [3, 1]):
        rows = np.array(rows)
        np.testing.assert_allclose(run(params, tokens_BT[rows], keys_B[rows]), together[rows], atol=2e-5)
    assert float(jnp.abs(together - logits(C, params, tokens_BT)).max()) > 0.1


def test_a_mask_does_not_change_with_sharding():
    params, tokens_BT = parameters(C), tokens(C, 4, 9)
    keys_B = jax.random.split(jax.random.key(3), 4)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    sharded = run(params, jax.device_put(tokens_BT, rows), jax.device_put(keys_B, rows))
    np.testing.assert_allclose(sharded, run(params, tokens_BT, keys_B), atol=2e-5)


@pytest.mark.parametrize("changes", [{"keys": None}, {"dropout": 0.0}])
def test_no_key_or_no_rate_is_no_dropout(changes):
    params, tokens_BT = parameters(C), tokens(C, 2, 9)
    keys_B = jax.random.split(jax.random.key(3), 2)
    if "keys" in changes:
        got = run(params, tokens_BT, None)
    else:
        got = functools.partial(logits, config())(params, tokens_BT, None, None, keys_B)
    np.testing.assert_array_equal(got, logits(config(), params, tokens_BT))
