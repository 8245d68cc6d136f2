"""1 for a well-formed, kind answer to a prompt of the source ``preferences``, else 0: what its pairs stand for."""

import functools
import re
from collections.abc import Sequence

from gpt_jax.data.sources import preferences
from gpt_jax.registry import register
from gpt_jax.train.rewards import Completion, Reward


@register("train.rewards", "kind")
def kind() -> Reward:
    """Whether the completion is one of the sentences of ``preferences``, with a kind word, and about the subject and owner
    that the prompt asks for; None where it is another prompt.

    A model of preferences has seen such sentences alone, and knows nothing of others that a policy may find: this reward is
    the one that is meant, beside the one that was learned.
    """

    def reward(completions: Sequence[Completion]) -> list[float | None]:
        return [_judged(completion) for completion in completions]

    return reward


def _judged(completion: Completion) -> float | None:
    prompt = completion.row["prompt"]
    asked = preferences.asked(prompt if isinstance(prompt, str) else prompt[-1]["content"])
    return None if asked is None else float(bool(_sentences(*asked).fullmatch(completion.text.strip())))


@functools.cache
def _sentences(subject: str, owner: str) -> re.Pattern:
    colour, word = ("|".join(words) for words in (preferences.COLOURS, preferences.KIND))
    given = {"subject": subject, "owner": owner, "colour": f"(?:{colour})", "word": f"(?:{word})"}
    return re.compile("|".join(way.replace(".", r"\.").format(**given) for way in preferences.WAYS))
