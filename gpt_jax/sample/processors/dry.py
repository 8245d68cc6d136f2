"""Don't repeat yourself: a penalty that grows with the length of what would be repeated."""

from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.limits import LARGEST_FLOAT, Count, Factor, Limits
from gpt_jax.registry import register
from gpt_jax.sample.history import repeats
from gpt_jax.sample.processors import Processor, Vocabulary, marked, saturated

BREAKERS = ("\n", ":", '"', "*")  # llama.cpp's
WHERE = "sample.processors: dry(breakers=…)"


@register("sample.processors", "dry", examples=("dry(multiplier=0.8, breakers=(3, 5))",), typical="dry(multiplier=0.8)")
def dry(
    given: Vocabulary,
    *,
    multiplier: Factor,
    base: Annotated[float, Limits(1, LARGEST_FLOAT)] = 1.75,
    allowed_length: Count = 2,
    breakers: tuple | None = None,
) -> Processor:
    """Takes multiplier base^(n - allowed_length) off the scores of tokens that would continue a run of n tokens, at least
    ``allowed_length``, that the text has already (Weidmann 2024, as in llama.cpp).

    Runs end at breakers, which are never penalised.

    Args:
      breakers: texts, each of which stands for all tokens whose text holds it, or token ids. None: a line feed, a colon,
        a quotation mark and an asterisk, as far as there is a tokenizer with such tokens.

    Raises:
      UserError: a breaker is in no token.
    """
    if breakers is None:
        ids = _holding(given, BREAKERS if given.tokenizer else ())
    else:
        texts = [breaker for breaker in breakers if isinstance(breaker, str)]
        for text in texts:
            if given.tokenizer and not _holding(given, [text]):
                fix = "give a shorter one, or token ids"
                raise UserError(f"no token's text holds {text!r}", where=WHERE, fix=fix)
        numbers = [i for breaker in breakers if not isinstance(breaker, str) for i in given.ids([breaker], WHERE)]
        ids = [*_holding(given, texts), *numbers]
    return Processor(
        change,
        {
            "multiplier_B": np.float32(multiplier),
            "base_B": np.float32(base),
            "allowed_B": np.int32(allowed_length),
            "breakers_BI": np.array(ids, np.int32),
        },
    )


def change(logits_BV, step, multiplier_B, base_B, allowed_B, breakers_BI):
    breaks_BV = marked(breakers_BI, logits_BV.shape[1])
    broken_BS = step.real_BS & jnp.take_along_axis(breaks_BV, step.tokens_BS, axis=1)
    last_B = jnp.where(broken_BS, jnp.arange(broken_BS.shape[1]), -1).max(-1)
    found_BS = jnp.where(step.real_BS, repeats(step, step.length_B - 1 - last_B), -1)
    longest_BV = jax.vmap(lambda longest_V, ids_S, found_S: longest_V.at[ids_S].max(found_S))(
        jnp.full(logits_BV.shape, -1), step.tokens_BS, found_BS
    )
    beyond_BV = longest_BV - allowed_B[:, None]
    power_BV = jnp.minimum(base_B[:, None] ** beyond_BV, LARGEST_FLOAT)
    penalised_BV = saturated(logits_BV - multiplier_B[:, None] * power_BV, logits_BV)
    return jnp.where((beyond_BV >= 0) & ~breaks_BV, penalised_BV, logits_BV)


def _holding(given: Vocabulary, texts: Sequence[str]) -> list[int]:
    """The tokens whose text holds one of some texts.

    Raises:
      UserError: there are texts, and no tokenizer.
    """
    if not texts:
        return []
    if given.tokenizer is None:
        raise UserError(f"there is no tokenizer for {texts[0]!r}", where=WHERE, fix="give token ids")
    decoded = (given.tokenizer.decode([i]) for i in range(given.size))
    return [i for i, own in enumerate(decoded) if any(text in own for text in texts)]
