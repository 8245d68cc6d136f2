"""1 for a completion with a text in it, else 0."""

from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.train.rewards import WHERE, Reward


@register("train.rewards", "contains", examples=("contains(text='kind')", "contains(text='Kind', ignore_case=True)"))
def contains(*, text: str, ignore_case: bool = False) -> Reward:
    """Whether ``text`` stands somewhere in the completion.

    Raises:
      UserError: the text is empty.
    """
    if not text:
        raise UserError("contains(text=''): every completion has that", where=WHERE, allowed="a text")
    seen = str.casefold if ignore_case else str
    return lambda completions: [float(seen(text) in seen(completion.text)) for completion in completions]
