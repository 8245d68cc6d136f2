"""Automata over tokens: which token may come next in a state, and the state that follows.

A regular expression is compiled to an automaton over bytes, which a token walks byte by byte; a user's own may go by tokens.
Tokens that do the same in every state are one class, so that a table of [states, classes] says all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.sample.processors import NONE, Step, Vocabulary

LARGEST = 2**22  # entries of a table, 16 MiB; every row of a batch has its own
MOST_STATES = 2**14
MARK = r"\x00"  # of the end of a text, which so cannot hold this character
FAR = 2**30  # tokens from a state whose text cannot be completed


@dataclass(frozen=True)
class Automaton:
    """States are numbered from 0, with which it starts.

    Args:
      next_QC: the state after a token of each class; ``NONE`` where it is not allowed.
      class_V: each token's class.
      left_Q: the fewest tokens that complete a text: 0 where it may end.
    """

    next_QC: np.ndarray
    class_V: np.ndarray
    left_Q: np.ndarray

    def knobs(self) -> dict[str, Any]:
        tables = {"next_BQC": self.next_QC, "class_BV": self.class_V, "left_BQ": self.left_Q}
        return {**tables, "state_B": np.int32(0)}


def of_regex(given: Vocabulary, pattern: str, where: str) -> Automaton:
    """Of the texts that match a pattern as a whole: see ``over_bytes``.

    Raises:
      UserError: there is no tokenizer, the library is absent, or the pattern is none, too large, or matches no text.
    """
    return of_bytes(given, *over_bytes(pattern, where), where)


def over_bytes(pattern: str, where: str) -> tuple[np.ndarray, set[int]]:
    """The automaton of the texts that match a pattern as a whole, in the syntax of outlines-core (Rust's regex-automata),
    without U+0000: the state after each byte [Q, 256], ``NONE`` where it is not allowed, and the states that accept. It
    begins in state 0.

    Raises:
      UserError: the library is absent, or the pattern is none, or too large.
    """
    # In a state that accepts, the library leaves out bytes after which a text is not complete. So a byte of ours marks the
    # end, after which nothing comes. The pattern has to be one by itself too.
    _compiled(pattern, pattern, where)
    marked = _compiled(f"(?:{pattern}){MARK}", pattern, where)
    rows, final = marked.get_transitions(), marked.get_final_states()
    number = {state: i for i, state in enumerate(dict.fromkeys([marked.get_initial_state(), *rows]))}
    next_QX = np.full((len(number), 256), NONE, np.int32)
    for state, row in rows.items():
        for byte, to in row.items():
            if 0 < byte < 256:
                next_QX[number[state], byte] = number[to]
    accepting = {number[state] for state, row in rows.items() if 0 in row and row[0] in final}
    return next_QX, accepting


def _compiled(text: str, pattern: str, where: str) -> Any:
    library = imported(where)
    try:
        return library.Index(text, library.Vocabulary(256, {bytes([i]): [i] for i in range(256)}))
    except (ValueError, RuntimeError) as error:
        reason = [*str(error).strip().splitlines(), "it is too large"][0]
        raise UserError(f"{pattern!r} is no pattern that can be compiled: {reason}", where=where) from None


def imported(where: str) -> Any:
    """outlines-core.

    Raises:
      UserError: it is not installed.
    """
    try:
        import outlines_core
    except ImportError:
        fix = 'pip install outlines-core, or ".[guide]"'
        raise UserError("patterns and schemas need outlines-core", where=where, fix=fix) from None
    return outlines_core


def of_bytes(given: Vocabulary, next_QX: np.ndarray, final: Iterable[int], where: str) -> Automaton:
    """Of an automaton over bytes, [Q, 256]: a token is allowed where its bytes are, and one without bytes nowhere.

    Raises:
      UserError: as ``of_tokens``; or there is no tokenizer.
    """
    tokens = token_bytes(given, where)
    order = sorted((i for i, token in enumerate(tokens) if token), key=lambda i: -len(tokens[i]))
    longest = len(tokens[order[0]]) if order else 0
    bytes_IL = np.zeros((len(order), longest), np.intp)
    for row, i in enumerate(order):
        bytes_IL[row, : len(tokens[i])] = list(tokens[i])
    lengths = np.array([len(tokens[i]) for i in order])
    still_L = [int((lengths > place).sum()) for place in range(longest)]
    walls_QX = np.vstack([next_QX, np.full(256, NONE, np.int32)])  # the last row is that of the state NONE

    def after(state: int) -> np.ndarray:
        at_I = np.full(len(order), state, np.int32)
        for place, still in enumerate(still_L):
            at_I[:still] = walls_QX[at_I[:still], bytes_IL[:still, place]]
        found_V = np.full(given.size, NONE, np.int32)
        found_V[order] = at_I
        return found_V

    return of_tokens(given, (after(state) for state in range(len(next_QX))), len(next_QX), final, where)


def of_tokens(
    given: Vocabulary, rows: Iterable[np.ndarray], states: int, final: Iterable[int], where: str
) -> Automaton:
    """Of the rows of a table [states, V]: the state after each token, or ``NONE``.

    Raises:
      UserError: the table is too large, or no text completes.
    """
    class_V = np.zeros(given.size, np.int64)
    splits: list[
        tuple[np.ndarray, np.ndarray]
    ] = []  # of each row, by class: the state after, and the class before the row
    for row_V in rows:
        found, first, class_V = np.unique(class_V * (states + 1) + row_V + 1, return_index=True, return_inverse=True)
        splits.append((row_V[first], found // (states + 1)))
        if len(found) * states > LARGEST:
            raise UserError(
                f"a table of {states} states and {len(found)} or more classes of tokens is too large",
                where=where,
                allowed=f"{LARGEST} entries, as every row of a batch has its own",
                fix="repeat less, as {0,20} instead of {0,200}, or split the pattern",
            )
    next_QC = np.zeros((states, class_V.max() + 1), np.int32)
    classes = np.arange(class_V.max() + 1)
    for state, (after, before) in reversed([*enumerate(splits)]):
        next_QC[state] = after[classes]
        classes = before[classes]
    left_Q = distances(next_QC, final)
    if left_Q[0] >= FAR:
        raise UserError("no text of this tokenizer's tokens completes it", where=where)
    kept_QC = np.where((next_QC >= 0) & (left_Q[next_QC] < FAR), next_QC, NONE)
    return Automaton(kept_QC.astype(np.int32), class_V.astype(np.int32), left_Q)


def distances(next_QC: np.ndarray, final: Iterable[int]) -> np.ndarray:
    """The fewest tokens from each state to a final one, int32 [Q]."""
    left_Q = np.full(len(next_QC) + 1, FAR, np.int32)  # the last is that of NONE
    left_Q[list(final)] = 0
    while True:
        nearer_Q = np.minimum(left_Q[:-1], np.minimum(left_Q[next_QC].min(1, initial=FAR) + 1, FAR))
        if (nearer_Q == left_Q[:-1]).all():
            return nearer_Q
        left_Q[:-1] = nearer_Q


def token_bytes(given: Vocabulary, where: str) -> Sequence[bytes]:
    """The bytes of every token; none for those that are no text, and beyond the tokenizer's own.

    Raises:
      UserError: there is no tokenizer.
    """
    if given.tokenizer is None:
        raise UserError(
            "there is no tokenizer, so there are no texts", where=where, fix="automaton(path=…, reads='ids')"
        )
    found = given.tokenizer.token_bytes()[: given.size]
    return [*found, *[b""] * (given.size - len(found))]


def allowed(logits_BV, step: Step, next_BQC, class_BV, left_BQ, state_B) -> jax.Array:
    """Keeps the tokens after which the text can still be completed in the room that is left, and where it is complete,
    those that end it."""
    after_BV = jnp.take_along_axis(_of_state(next_BQC, state_B), class_BV, axis=1)
    left_BV = jnp.take_along_axis(left_BQ, jnp.maximum(after_BV, 0), axis=1)
    room_B1 = (step.limit_B - step.written_B)[:, None]
    complete_B1 = jnp.take_along_axis(left_BQ, state_B[:, None], axis=1) == 0
    stops_BV = step.stops_BV(logits_BV.shape[1])
    kept_BV = jnp.where(stops_BV, complete_B1, (after_BV >= 0) & (left_BV <= room_B1 - 1))
    return jnp.where(kept_BV, logits_BV, -jnp.inf)


def moved(tokens_B, next_BQC, class_BV, state_B) -> dict[str, jax.Array]:
    """The state after a token; that of a row which has ended stays."""
    class_B1 = jnp.take_along_axis(class_BV, tokens_B[:, None], axis=1)
    after_B = jnp.take_along_axis(_of_state(next_BQC, state_B), class_B1, axis=1)[:, 0]
    return {"state_B": jnp.where(after_B >= 0, after_B, state_B)}


def over(step: Step, next_BQC, left_BQ, state_B) -> jax.Array:
    """Rows whose text is complete after this step, with no room for more, and no token to end it with, bool [B]."""
    next_BC = _of_state(next_BQC, state_B)
    left_BC = jnp.take_along_axis(left_BQ, jnp.maximum(next_BC, 0), axis=1)
    room_B1 = (step.limit_B - step.written_B)[:, None] - 1
    complete_B = jnp.take_along_axis(left_BQ, state_B[:, None], axis=1)[:, 0] == 0
    more_B = ((next_BC >= 0) & (left_BC <= room_B1 - 1)).any(-1)
    return complete_B & ~more_B & (step.stop_ids_BI < 0).all(-1)


def _of_state(next_BQC, state_B):
    return jnp.take_along_axis(next_BQC, state_B[:, None, None], axis=1)[:, 0]
