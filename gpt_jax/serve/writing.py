"""A text while it is written: tokens in, pieces of text out that never have to be taken back."""

from collections.abc import Sequence

from gpt_jax.sample.outputs.stream import TextStream
from gpt_jax.sample.rows import Row
from gpt_jax.serve.moderation.filters import FilteredText, Rule
from gpt_jax.serve.runs import ServedRun
from gpt_jax.serve.tickets import Piece, Text, Token


class WrittenText:
    """
    Args:
      index: of the text in its request.
      rules: what it may not say.

    Attributes:
      broken: the rule that ended it; None where none has.
    """

    def __init__(self, run: ServedRun, text: Text, index: int, rules: Sequence[Rule]):
        self._run, self._text, self._index = run, text, index
        self._stream = TextStream(run.tokenizer, text.ids, text.whole, text.stops)
        self._filtered = FilteredText(rules, text.before)
        self._ends: list[int] = []  # of tokens, where they are reported
        self._read = self._sent = self._reported = 0  # tokens read, characters and tokens that were sent

    @property
    def broken(self) -> Rule | None:
        return self._filtered.broken

    def advance(self, row: Row, going: bool) -> Piece | None:
        """What is new of the row; None where there is nothing yet. After a ``finish`` the row is not to be looked at again.

        Args:
          going: whether the row goes on.
        """
        stopped = bool(row.tokens) and row.tokens[-1] in self._text.sampling.stop_ids
        ids = row.tokens[:-1] if stopped else row.tokens
        written = self._stream.write(ids[self._read :])
        self._read = len(ids)
        ended = self._stream.stopped or not going
        text = self._filtered.write(written + (self._stream.close() if ended else ""), ended)
        self._sent += len(text)
        finish = self._finish(stopped, ended)
        tokens = self._tokens(row, ids)
        if not (text or tokens or finish):
            return None
        count = len(self._stream.ids) - len(self._text.ids) if self._stream.stopped else len(row.tokens)
        return Piece(self._index, text, tokens, finish, count)

    def _finish(self, stopped: bool, ended: bool) -> str | None:
        if self.broken is not None:
            return "content_filter"
        if not ended:
            return None
        return "stop" if stopped or self._stream.stopped else "length"

    def _tokens(self, row: Row, ids: Sequence[int]) -> list[Token]:
        """Those whose text has been sent whole: what is held back shows in no token either."""
        if self._text.top is None:
            return []
        done = len(self._ends)
        self._ends += self._run.spelling.ends([*self._text.ids, *ids[:done]], ids[done:], len(self._text.ids))
        first = self._reported
        while self._reported < len(ids) and self._ends[self._reported] <= self._sent:
            self._reported += 1
        return [self._token(row, i) for i in range(first, self._reported)]

    def _token(self, row: Row, i: int) -> Token:
        top = self._text.top or 0
        ids, logprobs = ((row.notes[name][i][:top] if top else []) for name in ("top_ids", "top_logprobs"))
        return Token(row.tokens[i], row.notes["logprobs"][i], ids, logprobs, self._ends[i])
