"""1 for the answer that the row has, else 0."""

from collections.abc import Sequence

from gpt_jax.registry import register
from gpt_jax.train.rewards import Completion, Reward


@register("train.rewards", "exact")
def exact(*, field: str = "answer") -> Reward:
    """Whether a completion is the text of this field of its row, blanks around both aside; None where a row lacks it."""

    def reward(completions: Sequence[Completion]) -> list[float | None]:
        return [float(c.text.strip() == str(c.row[field]).strip()) if field in c.row else None for c in completions]

    return reward
