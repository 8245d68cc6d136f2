"""Scores of two models at every place, without the logits of either existing whole."""

import functools

import jax
import numpy as np

from gpt_jax import registry
from gpt_jax.model.readout import Projection
from gpt_jax.train import token_scores


def chunked(chunk: int):
    """The compiled gradient of a distillation over the states of two models, and its value."""
    batch, context, width, vocab = 4, 64, 8, 512
    draw = np.random.default_rng(4)
    x, y = draw.normal(size=(2, batch, context, width)).astype(np.float32)
    w, u = draw.normal(size=(2, width, vocab)).astype(np.float32)
    targets = draw.integers(vocab, size=(batch, context))
    score = functools.partial(
        registry.build("train.objectives", "distill(teacher='x', alpha=0.5)")._scores, ids=vocab - 3
    )

    def total(x, w):
        sides = (x, y), (Projection(w), Projection(u))
        found = token_scores.over_both(score, *sides, targets, chunk=chunk, shards=1)
        return sum(part.sum() for part in found)

    compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1))).lower(x, w).compile()
    return compiled, compiled(x, w), 4 * batch * context * vocab


def test_logits_of_two_models_never_exist_whole():
    whole, wanted, logits = chunked(0)
    parts, found, _ = chunked(32)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)
    assert whole.memory_analysis().temp_size_in_bytes > 2 * logits
    assert parts.memory_analysis().temp_size_in_bytes < logits
    assert "4,64,512" not in parts.as_text() and "4,64,512" in whole.as_text()
