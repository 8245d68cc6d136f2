"""Keys, values and matrices that are kept as int8: close to the exact ones, and a quarter of their size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax import configs, registry
from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.model import gpt
from gpt_jax.model.cache import quantised, ring, rings
from gpt_jax.model.where import Where
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.engine.weights import linear_groups, prepare
from tests.model.variants import VARIANTS, config, parameters, tokens

MECHANISMS = {registry.parse(call)[0]: call for kind, call in VARIANTS if kind == "attention"}  # a call of each
STEP = 1 / 254  # of a number that is rounded to 127 steps, the error at most, of the largest in its row


def test_a_quantised_ring_is_within_half_a_step():
    random = np.random.default_rng(0)
    exact = ring(2, 4, jnp.dtype("float32"), exact=("rope",), k=(3, 8), rope=(1, 2))
    kept, plain = exact.quantised(), exact
    for turn in range(3):  # twice two tokens, and once round the ring
        new = {name: random.standard_normal((2, n, 2, h), np.float32) for name, n, h in (("k", 3, 8), ("rope", 1, 2))}
        new["k"][0, 0, 0] = 0
        where = Where(start=2 * turn)
        kept, plain = (r.append(where, **jax.tree.map(jnp.asarray, new)) for r in (kept, plain))
    error = np.abs(kept["k"] - plain["k"]) / np.maximum(np.abs(plain["k"]).max(-1, keepdims=True), 1e-9)
    assert 0.5 * STEP < error.max() <= 1.001 * STEP and kept.slots == 4
    assert kept.arrays["k"].dtype == jnp.int8 and kept.arrays["k_scale"].shape == (2, 3, 4, 1)
    np.testing.assert_array_equal(kept["rope"], plain["rope"])


@pytest.mark.every(4)
@pytest.mark.parametrize("call", MECHANISMS.values())
def test_a_mechanism_with_an_int8_cache_is_close(call):
    """Within 3% of the logits' spread; those that keep a state and no tokens are the same."""
    c = config(attention=call)
    tokens_BT = tokens(c, 2, 12)

    @jax.jit
    def run(params):
        model = nnx.merge(gpt.graphdef(c), params)
        positions_BT = jnp.broadcast_to(jnp.arange(12), (2, 12))
        found = []
        for change in (lambda cache: cache, quantised):
            cache = change(model.init_cache(2, 12))
            _, cache = model.extend(tokens_BT[:, :11], cache, 0, positions_BT[:, :11])
            x_BTD, cache = model.extend(tokens_BT[:, 11:], cache, 11, positions_BT[:, 11:])
            found.append((model.logits(x_BTD), cache))
        return found

    (exact, plain), (close, kept) = run(parameters(c))
    error = np.abs(close - exact).max() / np.std(exact)
    assert error < 0.03, error
    assert (error > 0) == bool(rings(plain))
    assert not rings(plain) or size(kept["blocks"]) < size(plain["blocks"]) * 0.8


def size(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def test_matrices_of_int8_are_within_half_a_step_and_a_quarter_of_the_size():
    c = config(bias=True, width=32, mlp_width=64)
    plain, kept = (prepare(c, parameters(c), int8=int8) for int8 in (False, True))
    for group, ours, exact in zip(linear_groups(c), kept["groups"], plain["groups"], strict=True):
        close = np.asarray(ours["w"], np.float32) * np.asarray(ours["scale"])[:, None]
        error = np.abs(close - exact["w"]) / np.abs(exact["w"]).max(-1, keepdims=True)
        assert 0.5 * STEP < error.max() <= 1.001 * STEP, group
    matrices = [[group["w"] for group in weights["groups"]] for weights in (kept, plain)]
    assert size(matrices[0]) * 4 == size(matrices[1])


def test_decoding_with_int8_agrees_mostly_and_says_what_it_wrote():
    """Log-probabilities are those of the tokens that were written, and most of these are the likeliest ones."""
    c = config(context=64)
    given = [[1, 2, 3], [4, 5, 6, 7, 8]]
    asked = dict(max_new_tokens=16, sampling=Sampling(greedy=True), seeds=[0, 1])
    plain = Decoder(c, parameters(c)).generate(given, **asked)
    both = Decoder(c, parameters(c), int8=("cache", "weights")).generate(given, **asked)
    for row, exact, ours, theirs in zip(both.tokens, plain.tokens, both.logprobs, plain.logprobs, strict=True):
        same = next((i for i, (a, b) in enumerate(zip(row, exact, strict=True)) if a != b), len(row))
        assert same >= 4
        np.testing.assert_allclose(ours[:same], theirs[:same], atol=0.1)
    assert both.logprobs != plain.logprobs


@pytest.mark.parametrize("name", ["cache", "weights"])
def test_another_kind_is_refused(name):
    values = configs.load("base").to_dict()
    values["sample"][name] = "int4"
    with pytest.raises(UserError, match=rf"sample.{name} = 'int4' is out of range(.|\n)*model, int8"):
        Config.from_dict(values)
