"""Texts that an automaton of the user's accepts."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.sample.constraints import automata
from gpt_jax.sample.processors import NONE, Processor, Vocabulary
from gpt_jax.storage import local_path
from gpt_jax.user_code import load_module, naming_errors_of

WHERE = "automaton"
NEEDED = ("start", "step", "accepts")
MOST_CALLS = 2**24  # of ``step``, which take ten seconds or so
READS = ("text", "bytes", "ids")


@register("sample.processors", "automaton", typical="automaton(path='FILE.py')", reads=("*.py",))
def automaton(given: Vocabulary, *, path: str, reads: str = "text") -> Processor:
    """What is written after the prompt is accepted by the finite automaton of a Python file (Willard and Louf 2023).

    The file holds ``start``, a state; ``step(state, part)``, the state after a part, or None where it is not allowed; and
    ``accepts(state)``, whether the text may end. States are any hashable values. All that can be reached are visited before
    anything is written, with every part.

    Args:
      path: of the file.
      reads: what a part is. "text": a token's text, a str; tokens that are no whole characters are not allowed. "bytes": a
        number from 0 to 255; a token is as many steps as it has bytes. "ids": a token's id.

    Raises:
      UserError: the file cannot be used, raises an error, or has too many states; or as ``automata.of_tokens``.
    """
    if reads not in READS:
        raise UserError(f"{reads!r} cannot be read", where=WHERE, allowed=", ".join(READS))
    file = local_path(path, WHERE)
    if not file.is_file():
        raise UserError(f"there is no file {path}", where=WHERE)
    module = load_module(file)
    lacking = [name for name in NEEDED if not hasattr(module, name)]
    if lacking:
        raise UserError(f"{path} lacks {', '.join(lacking)}", where=WHERE, allowed=", ".join(NEEDED))
    parts: Sequence[Any] = range({"ids": given.size, "bytes": 256, "text": 0}[reads])
    if reads == "text":
        parts = [_text(token) for token in automata.token_bytes(given, WHERE)]
    with naming_errors_of(file, "the automaton"):
        rows, states = explored(module.start, module.step, parts, path)
        final = [number for number, state in enumerate(states) if module.accepts(state)]
    if reads == "bytes":
        made = automata.of_bytes(given, np.stack(rows), final, WHERE)
    else:
        made = automata.of_tokens(given, rows, len(rows), final, WHERE)
    return Processor(change, made.knobs(), advance=advance, ends=ends)


def explored(start: Hashable, step: Callable, parts: Sequence, path: str) -> tuple[list[np.ndarray], list[Hashable]]:
    """The state after each part by the numbers of states, and the states; a part that is None leads nowhere."""
    numbers: dict[Hashable, int] = {start: 0}
    states, rows = [start], []
    for state in states:  # which grows
        row_V = np.full(len(parts), NONE, np.int32)
        for place, part in enumerate(parts):
            after = None if part is None else step(state, part)
            if after is not None:
                if after not in numbers:
                    numbers[after] = len(states)
                    states.append(after)
                row_V[place] = numbers[after]
        rows.append(row_V)
        if len(states) * len(parts) > MOST_CALLS:
            raise UserError(
                f"{path} has {len(states)} or more states, with {len(parts)} parts each",
                where=WHERE,
                allowed=f"{MOST_CALLS // len(parts)} states",
                fix="let step return states that repeat, not all that has been written",
            )
    return rows, states


def _text(token: bytes) -> str | None:
    try:
        return token.decode() or None
    except UnicodeDecodeError:
        return None


def change(logits_BV, step, next_BQC, class_BV, left_BQ, state_B):
    return automata.allowed(logits_BV, step, next_BQC, class_BV, left_BQ, state_B)


def advance(logits_BV, tokens_B, step, next_BQC, class_BV, left_BQ, state_B):
    return automata.moved(tokens_B, next_BQC, class_BV, state_B)


def ends(step, next_BQC, class_BV, left_BQ, state_B):
    return automata.over(step, next_BQC, left_BQ, state_B)
