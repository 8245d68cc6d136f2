"""What is noted of every token that is written, beside the token: a number each, or several."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gpt_jax.sample.cutoffs import entropy

LOGPROBS = "logprobs"  # always noted


def _logprobs(logits_BV, final_BV, tokens_B, top):
    """Natural logarithm of the model's own probability of the token."""
    return _of(logits_BV, tokens_B) - jax.nn.logsumexp(logits_BV, axis=1)


def _final_logprobs(logits_BV, final_BV, tokens_B, top):
    """The same after all processors: of the distribution that it was drawn from."""
    return _of(final_BV, tokens_B) - jax.nn.logsumexp(final_BV, axis=1)


def _entropy(logits_BV, final_BV, tokens_B, top):
    """Of the model's own distribution, in nats."""
    return entropy(jax.nn.log_softmax(logits_BV))


def _top_ids(logits_BV, final_BV, tokens_B, top):
    """The most likely tokens of the model's own distribution, the likeliest first, [B, top]."""
    return jax.lax.top_k(logits_BV, top)[1].astype(jnp.int32)


def _top_logprobs(logits_BV, final_BV, tokens_B, top):
    """Their natural logarithms of probabilities, [B, top]."""
    return jax.lax.top_k(jax.nn.log_softmax(logits_BV), top)[0]


def _final_top_logprobs(logits_BV, final_BV, tokens_B, top):
    """Those of the same tokens after all processors, [B, top]."""
    ids_BN = jax.lax.top_k(logits_BV, top)[1]
    return jnp.take_along_axis(jax.nn.log_softmax(final_BV), ids_BN, axis=1)


NOTES: dict[str, Callable] = {
    LOGPROBS: _logprobs,
    "final_logprobs": _final_logprobs,
    "entropy": _entropy,
    "top_ids": _top_ids,
    "top_logprobs": _top_logprobs,
    "final_top_logprobs": _final_top_logprobs,
}


def take(names: tuple[str, ...], logits_BV, final_BV, tokens_B, top: int) -> dict[str, jax.Array]:
    """Notes by name, [B] or [B, top]."""
    return {name: NOTES[name](logits_BV, final_BV, tokens_B, top) for name in names}


def _of(logits_BV, tokens_B):
    return jnp.take_along_axis(logits_BV, tokens_B[:, None], axis=1)[:, 0]
