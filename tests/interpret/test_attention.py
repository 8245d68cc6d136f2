"""Attention maps and the scores of heads, on models and on maps whose answer is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.errors import UserError
from gpt_jax.interpret import ablate, attention, residual_stream, spectra
from gpt_jax.interpret.model import logits, merged
from gpt_jax.model import layout
from gpt_jax.model.attend import reference
from tests.model.variants import config, parameters

TOKENS = np.array([[5, 9, 7, 5, 9, 7, 5, 9]])


def test_maps_are_the_softmax_of_the_scores():
    c = config(layers=1, kv_heads=4, bias=False)
    params = parameters(c)
    maps_BNTS = attention.maps(c, params, TOKENS)[0]
    model = merged(c, params)
    block = model.blocks["0"]
    x_BTD = block.norm1(model.embed(TOKENS, None, jnp.float32))
    q_BTNH, k_BTNH = block.attention.q(x_BTD), block.attention.k(x_BTD)
    scores_BNTS = jnp.einsum("BTNH,BSNH->BNTS", q_BTNH, k_BTNH) / 2  # sqrt of 4 channels
    wanted = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((8, 8), bool)), scores_BNTS, -jnp.inf))
    np.testing.assert_allclose(maps_BNTS, wanted, atol=1e-6)
    assert not reference._collections


@pytest.mark.parametrize(
    "mechanism, softmaxes", [("full(sink=True)", 1), ("sliding(window=3)", 1), ("differential", 2)]
)
def test_every_softmax_of_every_layer_is_collected(mechanism, softmaxes):
    c = config(attention=mechanism, scan=False)
    maps_MBNTS = attention.maps(c, parameters(c), TOKENS)
    assert maps_MBNTS.shape == (2 * softmaxes, 1, 4 // softmaxes, 8, 8)
    assert np.all(np.triu(maps_MBNTS, 1) == 0)
    rows = np.asarray(maps_MBNTS.sum(-1))
    assert np.all(rows < 1) if "sink" in mechanism else np.allclose(rows, 1, atol=1e-5)


def test_without_a_softmax_there_are_no_maps():
    c = config(attention="linear")
    with pytest.raises(UserError, match="softmax"):
        attention.maps(c, parameters(c), TOKENS)


def test_ideal_heads_score_one():
    same = TOKENS[0][:, None] == TOKENS[0][None]
    maps = np.zeros((3, 1, 1, 8, 8))
    maps[:, 0, 0, 0, 0] = 1
    for t in range(1, 8):
        earlier = [s for s in range(t) if same[t, s]]
        maps[0, 0, 0, t, earlier[-1] + 1 if earlier else 0] = 1  # an induction head
        maps[1, 0, 0, t, t - 1] = 1
        maps[2, 0, 0, t, earlier or [0]] = 1 / max(len(earlier), 1)
    np.testing.assert_allclose(attention.prefix_matching(maps, TOKENS)[:, 0], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(attention.previous_token(maps)[1], [1], atol=1e-6)
    assert attention.previous_token(maps)[0, 0] < 0.2
    np.testing.assert_allclose(attention.duplicate_token(maps, TOKENS)[2], [1], atol=1e-6)
    uniform = np.tril(np.ones((8, 8))) / np.arange(1, 9)[:, None]
    np.testing.assert_allclose(
        attention.entropy(uniform[None, None, None])[0, 0], np.log(np.arange(1, 9)).mean(), rtol=1e-5
    )


def test_a_head_that_adds_nothing_costs_nothing():
    c = config(kv_heads=4)
    params = parameters(c)
    silent = ablate.without_head(params, 1, 2)
    assert np.any(params["blocks"]["1"]["attention"]["out"]["w"][2])
    targets, weights = np.roll(TOKENS, -1, 1), np.ones(TOKENS.shape)
    effects_LN = np.asarray(ablate.head_effects(c, silent, TOKENS, targets, weights))
    assert effects_LN[1, 2] == 0 and np.all(effects_LN[0] != 0)
    with pytest.raises(UserError, match="no head 4 in layer 1"):
        ablate.without_head(params, 1, 4)
    with pytest.raises(UserError, match="no head 0 in layer 2"):
        ablate.without_head(params, 2, 0)


@pytest.mark.parametrize(
    "layers, mechanisms", [(4, ("full",)), (4, ("full", "linear")), (2, ("full", "sliding(window=3)"))]
)
def test_stacked_layers_are_measured_like_unrolled_ones(layers, mechanisms):
    """With as many mechanisms as layers, both layouts have as many blocks."""
    c = config(layers=layers, attention=mechanisms, kv_heads=4)
    params = parameters(c)
    stacked, scanned = layout.stack(params, len(mechanisms)), dataclasses.replace(c, scan=True)
    wanted = residual_stream.streams(c, params, TOKENS)
    np.testing.assert_array_equal(residual_stream.streams(scanned, stacked, TOKENS), wanted)
    assert spectra.weight_spectra(stacked).keys() == spectra.weight_spectra(params).keys()
    for layer in range(layers):
        silent, cut = ablate.without_head(params, layer, 2), ablate.without_head(stacked, layer, 2)
        assert jax.tree.all(jax.tree.map(np.array_equal, cut, layout.stack(silent, len(mechanisms))))
    with pytest.raises(UserError, match=f"no head 0 in layer {layers}"):
        ablate.without_head(stacked, layers, 0)


def test_edited_heads():
    c = config(kv_heads=4, scan=True, layers=4)
    params = parameters(c)
    same = ablate.heads_edited(c, params, TOKENS, lambda layer, y_BTNH: y_BTNH)
    np.testing.assert_allclose(same, logits(c, params, TOKENS), atol=1e-5)
    cut = ablate.heads_edited(
        c, params, TOKENS, lambda layer, y_BTNH: y_BTNH.at[:, :, 2].set(0) if layer == 1 else y_BTNH
    )
    np.testing.assert_allclose(cut, logits(c, ablate.without_head(params, 1, 2), TOKENS), atol=1e-5)


def test_the_heads_of_one_layer_carry_what_only_they_see():
    """Texts that differ before the last token, which one layer's heads alone bring to it."""
    c = config(layers=1, kv_heads=4)
    params, other = parameters(c), np.array([[5, 9, 7, 8, 9, 7, 5, 9]])
    found_LN = np.asarray(ablate.head_patching(c, params, TOKENS, other, answer=7, rival=8))
    assert found_LN.shape == (1, 4) and np.all(found_LN != 0)
    for head in range(1, 4):
        params = ablate.without_head(params, 0, head)
    alone_LN = np.asarray(ablate.head_patching(c, params, TOKENS, other, answer=7, rival=8))
    np.testing.assert_allclose(alone_LN, [[1, 0, 0, 0]], atol=1e-4)
