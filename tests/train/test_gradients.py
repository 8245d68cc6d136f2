"""Gradients: what accumulation and a narrower dtype do to them, of every registered part."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax import registry
from gpt_jax.mesh.spread import BatchSplit
from gpt_jax.model import gpt
from gpt_jax.train import gradients, step
from tests.model import variants
from tests.train import tiny

LIMITED = "moe(experts=4, top_k=1, balance=0.3, z=0.1, bias_balance=True, capacity=1.0)"


def gradient(model, batch, **changes) -> tuple[dict, dict]:
    """(metrics, gradients) of one batch, on one device."""
    config = dataclasses.replace(tiny.config(**changes), model=model)
    parts = step.objective_of(config), step.adapter_of(config)
    recipe = gradients.Recipe(config, gpt.graphdef(model), *parts, BatchSplit())
    params = variants.parameters(dataclasses.replace(model, dtype="float32"))
    dtype = jnp.promote_types(model.dtype, jnp.float32)
    state = {"step": jnp.int32(0), "params": jax.tree.map(lambda leaf: leaf.astype(dtype), params)}
    return jax.jit(functools.partial(gradients.loss_and_grads, recipe))(state, batch, step.hyper_scalars(config))


def apart(found: dict, wanted: dict) -> dict[str, float]:
    """Length of the difference over that of what is wanted, by the path of the parameter. Derivatives that are zero but for
    rounding (a key's bias moves all scores alike) count beside the whole gradient."""
    whole = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(wanted)))
    size = lambda leaf: float(jnp.sqrt(jnp.sum(leaf**2)))
    pairs = jax.tree.map(lambda a, b: size(a - b) / max(size(b), 1e-3 * whole), found, wanted)
    return {jax.tree_util.keystr(path): value for path, value in jax.tree_util.tree_leaves_with_path(pairs)}


@pytest.mark.parametrize("kind, call", [pair for pair in variants.VARIANTS if pair[0] != "attend"])
def test_nothing_but_mixtures_of_experts_couples_the_rows_of_a_batch(kind, call):
    """Through what it reports: only that can make a batch's loss another than the sum of its parts'."""
    model = variants.config(**{kind: call}, layers=1)
    module = nnx.eval_shape(lambda: gpt.GPT(model, nnx.Rngs(params=0)))
    _, report = jax.eval_shape(lambda m: m.hidden(jnp.zeros((2, 16), jnp.int32)), module)
    known = {"moe_loss", "moe_load", "moe_dropped", "moe_pull"} if call.startswith("moe") else set()
    assert set(report) == known


@pytest.mark.every(2)
@pytest.mark.parametrize("call", ["gelu", *registry.examples("model.mlp", "moe"), LIMITED])
def test_accumulation_changes_nothing_but_rounding(call):
    """In float64; a third of the tokens does not count, and micro-batches have unequal numbers of those that do."""
    with jax.enable_x64(True):
        model = variants.config(mlp=call, dtype="float64", layers=1)
        (batch,) = tiny.batches(1, rows=4, context=12, vocab=model.vocab)
        batch["weights"][:2, :5] = 0
        (one, whole), (several, parts) = (gradient(model, batch, train__accumulate=n) for n in (1, 4))
        assert max(apart(parts, whole).values()) < 1e-12
        assert one.keys() <= several.keys()
        for name in one:
            rtol = 1e-12 if one[name].dtype == np.float64 else 1e-6  # shares of choices are float32
            np.testing.assert_allclose(several[name], one[name], rtol=rtol, atol=1e-14, err_msg=name)


@pytest.fixture(scope="module")
def large():
    """A batch of 262,144 tokens, of packed documents, and its gradient in float32."""
    model = variants.config(layers=1)
    draw = np.random.default_rng(0)
    tokens = draw.integers(model.vocab, size=(2**14, 17)).astype(np.int32)
    tokens[:, 1::2] = (5 * tokens[:, :-1:2] + 1) % model.vocab  # every second one can be learned
    positions = np.broadcast_to(np.arange(16, dtype=np.int32) % 8, (2**14, 16))
    batch = {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], "positions": positions}
    batch |= {"segments": 1 + (np.arange(16, dtype=np.int32) // 8) + 0 * positions}
    batch |= {"weights": np.ones((2**14, 16), np.float32)}
    return model, batch, gradient(model, batch)[1]


@pytest.mark.every(2)
@pytest.mark.parametrize("chunk", [0, 2**16])
@pytest.mark.parametrize("dtype, most", [("float16", 0.005), ("bfloat16", 0.03)])
def test_gradients_of_large_batches_are_as_exact_as_their_dtype(large, dtype, most, chunk):
    """Whether the logits exist at once or not."""
    model, batch, wanted = large
    _, found = gradient(dataclasses.replace(model, dtype=dtype), batch, train__loss_chunk=chunk)
    off = apart(found, wanted)
    assert max(off.values()) < most, max(off, key=off.get)
