"""Texts that match a regular expression."""

from gpt_jax.registry import register
from gpt_jax.sample.constraints import automata
from gpt_jax.sample.processors import Processor, Vocabulary


@register("sample.processors", "regex", typical="regex(pattern='[0-9]+')")
def regex(given: Vocabulary, *, pattern: str) -> Processor:
    """What is written after the prompt matches ``pattern`` as a whole (Willard and Louf 2023).

    The row may end where it matches, and has to be able to within ``max_new_tokens``.

    Raises:
      UserError: as ``automata.of_regex``.
    """
    return Processor(change, automata.of_regex(given, pattern, "regex").knobs(), advance=advance, ends=ends)


def change(logits_BV, step, next_BQC, class_BV, left_BQ, state_B):
    return automata.allowed(logits_BV, step, next_BQC, class_BV, left_BQ, state_B)


def advance(logits_BV, tokens_B, step, next_BQC, class_BV, left_BQ, state_B):
    return automata.moved(tokens_B, next_BQC, class_BV, state_B)


def ends(step, next_BQC, class_BV, left_BQ, state_B):
    return automata.over(step, next_BQC, left_BQ, state_B)
