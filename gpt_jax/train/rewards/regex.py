"""1 for a completion that matches a pattern, else 0."""

from collections.abc import Sequence

from gpt_jax.registry import register
from gpt_jax.sample.constraints import automata
from gpt_jax.train.rewards import WHERE, Completion, Reward


@register("train.rewards", "regex", examples=("regex(pattern='[0-9]+')", "regex(pattern='(?s:.*)answer(?s:.*)')"))
def regex(*, pattern: str) -> Reward:
    """Whether ``pattern`` matches the completion as a whole; "(?s:.*)" before and after it stands for anything around.

    The pattern is that of the processor ``regex``: an automaton that reads each byte once, so that no pattern takes longer
    than the text, and none looks back or ahead.

    Raises:
      UserError: outlines-core is absent, or the pattern is none, or too large.
    """
    next_QX, final = automata.over_bytes(pattern, WHERE)
    rows = next_QX.tolist()

    def matches(text: str) -> bool:
        state = 0
        for byte in text.encode("utf-8", "replace"):
            state = rows[state][byte]
            if state < 0:
                return False
        return state in final

    def reward(completions: Sequence[Completion]) -> list[float]:
        return [float(matches(completion.text)) for completion in completions]

    return reward
