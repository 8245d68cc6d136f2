"""The gradient noise scale: the batch size beyond which larger batches hardly help (McCandlish et al. 2018).

It is in what ``Objective.count`` counts: tokens, as it is put here, or pairs, rows or answers.

Of a batch in several micro-batches, the gradients' squared lengths at two sizes give the length of the true gradient,
|G|^2 ("noise_signal"), and the trace of one token's covariance, S ("noise_trace"), without bias (appendix A.1). Their
ratio S / |G|^2 is the simple noise scale, in tokens; each is to be averaged before they are divided.
"""

from typing import Any

import jax
import jax.numpy as jnp


def square(grads: Any) -> jax.Array:
    """The squared length of a tree of gradients."""
    return sum((jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(grads)), jnp.float32(0))


def estimate(
    squares_A: jax.Array, tokens_A: jax.Array, square_all: jax.Array, tokens: jax.Array
) -> dict[str, jax.Array]:
    """{"noise_signal", "noise_trace"} of the gradients of A micro-batches.

    Args:
      squares_A: squared lengths of their sums of token gradients / ``tokens``.
      tokens_A: the tokens that count in each; all ``tokens`` together.
      square_all: the squared length of the whole batch's mean gradient.
    """
    share_A = jnp.maximum(tokens_A, 1) / tokens
    # E|g_i|^2 = |G|^2 + S / tokens_i for the mean gradient g_i of a micro-batch, weighed here by its tokens.
    small = (squares_A / share_A).sum()
    inverse = len(tokens_A) / tokens
    trace = (small - square_all) / jnp.maximum(inverse - 1 / tokens, 1e-30)
    return {"noise_signal": square_all - trace / tokens, "noise_trace": trace}
