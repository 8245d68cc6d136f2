"""0 for a completion of a length, less the further away from it."""

from collections.abc import Callable

from gpt_jax.errors import UserError
from gpt_jax.limits import Count
from gpt_jax.registry import register
from gpt_jax.train.rewards import WHERE, Completion, Reward

UNITS: dict[str, Callable[[Completion], int]] = {
    "tokens": lambda completion: len(completion.ids),
    "words": lambda completion: len(completion.text.split()),
    "characters": lambda completion: len(completion.text),
}


@register("train.rewards", "length", examples=("length(target=20)", "length(target=5, unit='words')"))
def length(*, target: Count, unit: str = "tokens") -> Reward:
    """-|n - target| / target of a completion of n units (after Aggarwal and Welleck 2025, L1, equation 1): -1 for an empty
    one and for one of twice the target, and less without an end beyond.

    Args:
      unit: tokens, with the one that ends a completion · words, between blanks · characters.

    Raises:
      UserError: an unknown unit.
    """
    if unit not in UNITS:
        raise UserError(f"length(unit={unit!r})", where=WHERE, allowed=", ".join(UNITS))
    count = UNITS[unit]
    return lambda completions: [-abs(count(completion) - target) / target for completion in completions]
