"""From logits to the next token: temperature, then top-k, then top-p, then a draw. All knobs are traced, one per row.

The masks are those of Hugging Face ``transformers``. The cut-offs are found by bisection over the bits of the floats
instead of a sort: on CPU, sorting GPT-2's 50,257 logits takes longer than reading out a token's logits.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

BLOCK = 256  # tokens; a draw first picks one of V / 256 blocks, then a token in it


def steps_of(temperature, top_k, top_p) -> frozenset[str]:
    """The steps that some row asks for, of ``draw``, ``top_k`` and ``top_p``. Numbers that the host knows, for all rows or
    one a row."""
    draw = np.any(np.asarray(temperature) > 0)
    asked = {"draw": draw, "top_k": draw & np.any(np.asarray(top_k) > 0), "top_p": draw & np.any(np.asarray(top_p) < 1)}
    return frozenset(step for step, by_some in asked.items() if by_some)


def choose(
    logits_BV, temperature_B, top_k_B, top_p_B, keys_B, steps: frozenset[str] | None = None, bits: int = 1
) -> jax.Array:
    """The next token of every row, int32 [B].

    Args:
      logits_BV: float32.
      temperature_B: divides the logits; 0 takes the most likely token (the first, among equals).
      top_k_B: keeps the k most likely tokens and all that equal the last of them; 0 keeps all.
      top_p_B: of what is left, keeps the most likely tokens whose probability first reaches p; 1 keeps all.
      keys_B: one random key a row. A row's token depends on no other row.
      steps: the others are left out (``steps_of``); None leaves out at run time what no row asks for.
      bits: of a cut-off, that are found at a time; see ``_largest``.
    """
    greedy_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)

    def drawn(_):
        masked_BV = mask(logits_BV, temperature_B, top_k_B, top_p_B, steps, bits)
        return jnp.where(temperature_B > 0, draw(masked_BV, keys_B), greedy_B)

    return _step("draw", steps, temperature_B > 0, drawn, greedy_B)


def mask(logits_BV, temperature_B, top_k_B, top_p_B, steps: frozenset[str] | None = None, bits: int = 1) -> jax.Array:
    """Logits up to a constant a row, over the temperature, -inf where top-k or top-p removes a token."""
    logits_BV = scale(logits_BV, temperature_B)
    logits_BV = _step("top_k", steps, top_k_B > 0, lambda x: keep_top_k(x, top_k_B, bits), logits_BV)
    return _step("top_p", steps, top_p_B < 1, lambda x: keep_top_p(x, top_p_B, bits), logits_BV)


def _step(name: str, steps: frozenset[str] | None, asked_B, change: Callable, x: jax.Array) -> jax.Array:
    """change(x) where ``steps`` has the name, or, without them, where a row asks for it; else x."""
    if steps is None:
        return jax.lax.cond(jnp.any(asked_B), change, lambda x: x, x)
    return change(x) if name in steps else x


def draw(logits_BV, keys_B) -> jax.Array:
    """A token of each row with the probabilities softmax(logits), int32 [B].

    Inverts the cumulative distribution in two steps with a uniform number each: one float32 would be too coarse for the
    tail of a large vocabulary, and noise for every token (the Gumbel trick) takes as long as reading out the logits.
    """
    weights_BV = jnp.exp(logits_BV - logits_BV.max(-1, keepdims=True))
    padding = -weights_BV.shape[1] % BLOCK
    blocks_BCV = jnp.pad(weights_BV, ((0, 0), (0, padding))).reshape(len(weights_BV), -1, BLOCK)

    def one(key, blocks_CV):
        uniform = jax.random.uniform(key, (2,))
        block = _invert(blocks_CV.sum(1), uniform[0])
        return block * BLOCK + _invert(blocks_CV[block], uniform[1])

    return jax.vmap(one)(keys_B, blocks_BCV)


def _invert(weights_C: jax.Array, uniform: jax.Array) -> jax.Array:
    """The first index whose cumulative share exceeds ``uniform`` (below 1), among those of a weight above 0."""
    cumulative_C = jnp.cumsum(weights_C)
    possible_C = weights_C > 0
    reached_C = possible_C & (cumulative_C > uniform * cumulative_C[-1])
    last = len(weights_C) - 1 - jnp.argmax(possible_C[::-1])  # where rounding leaves nothing above
    return jnp.where(reached_C.any(), jnp.argmax(reached_C), last).astype(jnp.int32)


def scale(logits_BV, temperature_B) -> jax.Array:
    """(logits - their maximum) / temperature; the shift keeps small temperatures finite. A temperature of 0 counts as 1."""
    shifted_BV = logits_BV - logits_BV.max(-1, keepdims=True)
    return shifted_BV / jnp.where(temperature_B > 0, temperature_B, 1)[:, None]


def keep_top_k(logits_BV, top_k_B, bits: int = 1) -> jax.Array:
    """-inf for all below the k-th largest logit; its equals all stay. k = 0 or k >= V keeps everything."""
    bits_BV = _ordered_bits(logits_BV)

    def enough(threshold_BJ):
        return jnp.sum(bits_BV[:, None] >= threshold_BJ[:, :, None], axis=-1) >= top_k_B[:, None]

    kth_B = _largest(enough, len(logits_BV), bits)
    off_B = (top_k_B <= 0) | (top_k_B >= logits_BV.shape[-1])
    return jnp.where(off_B[:, None] | (bits_BV >= kth_B[:, None]), logits_BV, -jnp.inf)


def keep_top_p(logits_BV, top_p_B, bits: int = 1) -> jax.Array:
    """-inf for the least likely tokens whose summed probability is at most 1 - p; one token always stays.

    Among equal logits at the cut the ones with the lower ids go first. Rows with p >= 1 are not touched.
    """
    bits_BV = _ordered_bits(logits_BV)
    weights_BV = jnp.exp(logits_BV - logits_BV.max(-1, keepdims=True))
    spare_B = (1 - top_p_B) * weights_BV.sum(-1)

    def below(threshold_BJ):
        return jnp.where(bits_BV[:, None] < threshold_BJ[:, :, None], weights_BV[:, None], 0).sum(-1)

    found_B = _largest(lambda threshold_BJ: below(threshold_BJ) <= spare_B[:, None], len(logits_BV), bits)
    cut_B = jnp.minimum(found_B, bits_BV.max(-1))
    equal_BV = bits_BV == cut_B[:, None]
    weight_B = jnp.max(jnp.where(equal_BV, weights_BV, 0), axis=-1)
    count_B = equal_BV.sum(-1)
    room_B = jnp.floor(
        (spare_B - below(cut_B[:, None])[:, 0]) / jnp.maximum(weight_B, jnp.finfo(weights_BV.dtype).tiny)
    )
    dropped_B = jnp.clip(room_B, 0, count_B - 1).astype(jnp.int32)
    rank_BV = jnp.cumsum(equal_BV, axis=-1) - 1
    kept_BV = (bits_BV > cut_B[:, None]) | (equal_BV & (rank_BV >= dropped_B[:, None]))
    return jnp.where(kept_BV | (top_p_B >= 1)[:, None], logits_BV, -jnp.inf)


def _ordered_bits(x: jax.Array) -> jax.Array:
    """float32 as uint32 such that the order stays the same (both zeros become +0)."""
    bits = jax.lax.bitcast_convert_type(x + 0.0, jnp.uint32)
    sign = jnp.uint32(1 << 31)
    return jnp.where(bits < sign, bits | sign, ~bits)


def _largest(holds: Callable[[jax.Array], jax.Array], rows: int, bits: int) -> jax.Array:
    """The largest uint32 of each row for which ``holds``, which is true up to some number and false above.

    Args:
      holds: of numbers [B, J].
      bits: found at a time, by 2^bits - 1 trials at once. More than 1 take fewer rounds, and these no loop, which is what
        counts where a round takes as long as it takes to start it.
    """
    digits_J = jnp.arange(1, 2**bits, dtype=jnp.uint32)

    def settle(i, found_B):
        shift = jnp.uint32(32 - bits) - jnp.uint32(bits) * jnp.asarray(i, jnp.uint32)
        digit_B = holds(found_B[:, None] | (digits_J << shift)).sum(-1, dtype=jnp.uint32)
        return found_B | (digit_B << shift)

    return jax.lax.fori_loop(0, 32 // bits, settle, jnp.zeros(rows, jnp.uint32), unroll=bits > 1)
