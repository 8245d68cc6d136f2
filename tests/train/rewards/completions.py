"""Completions as rewards read them."""

from collections.abc import Sequence

from gpt_jax import registry
from gpt_jax.train.rewards import Completion


def completion(text: str, ids: Sequence[int] = (), ended: bool = True, prompt="?", **row) -> Completion:
    return Completion({"prompt": prompt, **row}, text, ids, ended)


def rewarded(call: str, *given: str | Completion) -> list[float | None]:
    """What a reward gives for completions, or for their texts."""
    reward = registry.build("train.rewards", call)
    return list(reward([one if isinstance(one, Completion) else completion(one) for one in given]))
