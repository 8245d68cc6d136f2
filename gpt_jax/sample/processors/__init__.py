"""What changes the scores of the next token before one is drawn (``sample.processors``), a file each.

A processor is a pure function of arrays, and its knobs, of which every row of a batch has its own. This is the smallest:

    @register("sample.processors", "min_p", examples=("min_p(p=0.1)",))
    def min_p(given: Vocabulary, *, p: Share) -> Processor:
        return Processor(change, {"p_B": np.float32(p)}, warps=True)

    def change(logits_BV, step, p_B):
        shares_BV = jnp.exp(logits_BV - logits_BV.max(-1, keepdims=True))
        return jnp.where(shares_BV < p_B[:, None], -jnp.inf, logits_BV)

``docs/sampling.md`` says in which order they run; one that is not named there runs before the temperature.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.limits import LARGEST_FLOAT

Change = Callable[..., jax.Array]
Advance = Callable[..., dict[str, jax.Array]]
Ends = Callable[..., jax.Array]


@dataclass(frozen=True)
class Processor:
    """One change of the scores, with the knobs of one row.

    Args:
      change: (logits_BV, step, **knobs) -> logits_BV, float32; -inf removes a token. A function of a module, as programs
        are compiled anew for another one. What it does in a row depends on that row alone.
      knobs: arrays by name, without their axis of rows; ``change`` gets them with it, [B, …]. Rows may hold arrays of
        different sizes: shorter ones are filled up with ``NONE``, or with 0 where they are no whole numbers.
      warps: whether it only shapes what is drawn, so that it is left out where the most likely token is taken.
      advance: (logits_BV, tokens_B, step, **knobs) -> those of the knobs that change once ``tokens_B`` are chosen from the
        final scores.
      ends: (step, **knobs after ``advance``) -> bool [B], which rows end with this step's token, whatever it is.
    """

    change: Change
    knobs: Mapping[str, Any] = field(default_factory=dict)
    warps: bool = False
    advance: Advance | None = None
    ends: Ends | None = None


NONE = -1  # fills up arrays of ids


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Step:
    """What a processor may look at besides the scores.

    Args:
      tokens_BS: each row's prompt and what has been written after it, from its first token on.
      length_B: how many tokens that are; what stands beyond is none.
      prompt_B: how many of them are the prompt.
      limit_B: how many may be written.
      stop_ids_BI: what ends a row; filled up with ``NONE``.
      keys_B: a random key for each row and position; fold a number of your own in.
      bits: of a cut-off, that are found at a time; see ``cutoffs.largest``.
    """

    tokens_BS: jax.Array
    length_B: jax.Array
    prompt_B: jax.Array
    limit_B: jax.Array
    stop_ids_BI: jax.Array
    keys_B: jax.Array
    bits: int = dataclasses.field(default=1, metadata={"static": True})

    @property
    def written_B(self) -> jax.Array:
        """How many tokens have been written."""
        return self.length_B - self.prompt_B

    @property
    def real_BS(self) -> jax.Array:
        """Where ``tokens_BS`` holds a token."""
        return jnp.arange(self.tokens_BS.shape[1]) < self.length_B[:, None]

    def stops_BV(self, vocab: int) -> jax.Array:
        """Which tokens end the row."""
        return marked(self.stop_ids_BI, vocab)


def marked(ids_BI: jax.Array, vocab: int, where_BI: jax.Array | bool = True) -> jax.Array:
    """Which of ``vocab`` tokens are among ids [B, I], where that holds; ``NONE`` and ids beyond are none. bool [B, V]."""
    kept_BI = jnp.where(where_BI & (ids_BI >= 0), ids_BI, vocab)
    empty_BV = jnp.zeros((len(ids_BI), vocab), bool)
    return jax.vmap(lambda empty_V, ids_I: empty_V.at[ids_I].set(True, mode="drop"))(empty_BV, kept_BI)


def normal(divisor: float) -> np.float32:
    """float32 of a divisor above 0, at least the smallest that arithmetic which flushes denormals does not take for 0."""
    return max(np.float32(divisor), np.finfo(np.float32).tiny)


def saturated(changed_BV: jax.Array, before_BV: jax.Array) -> jax.Array:
    """Changed scores, the largest float32 where they overflowed; those that were infinite before stay as they were."""
    kept_BV = jnp.clip(changed_BV, -LARGEST_FLOAT, LARGEST_FLOAT)
    return jnp.where(jnp.isfinite(before_BV), kept_BV, before_BV)


class Tokenizer(Protocol):
    """What is used here of a tokenizer; see ``gpt_jax.data.tokenizers.Tokenizer``."""

    separator: int | None
    stop_ids: tuple[int, ...]
    opening: tuple[int, ...]
    unopened: str
    fused_ids: frozenset[int]
    fingerprint: str

    def encode(self, text: str) -> np.ndarray: ...

    def token_bytes(self) -> list[bytes]: ...

    def decode(self, ids: list[int]) -> str: ...


@dataclass(frozen=True)
class Vocabulary:
    """What processors are built for: the model's tokens, and the texts that they stand for."""

    size: int
    tokenizer: Tokenizer | None = None
    stop_ids: tuple[int, ...] = ()

    def ids(self, given: str | int | Sequence[int], where: str) -> list[int]:
        """A word's token ids; it may be given as text, as one id or as several.

        Raises:
          UserError: it is empty, or of another vocabulary; or a text, and there is no tokenizer.
        """
        if isinstance(given, str):
            if self.tokenizer is None:
                raise UserError(f"there is no tokenizer for {given!r}", where=where, fix="give token ids")
            found = self.tokenizer.encode(given).tolist()
        else:
            found = [given] if isinstance(given, int) else list(given)
        outside = [i for i in found if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < self.size]
        if outside or not found:
            problem = f"{outside[0]!r} of {given!r} is no token id" if outside else f"{given!r} holds no token"
            raise UserError(problem, where=where, allowed=f"ids from 0 to {self.size - 1}")
        return found
