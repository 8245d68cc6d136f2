"""Ids that arrive piece by piece as text that never has to be taken back, up to the first stop string."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt_jax.config import SampleConfig
from gpt_jax.errors import UserError
from gpt_jax.sample.processors import Tokenizer

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what decoding makes of a character whose last bytes are still to come


@dataclass(frozen=True)
class StopStrings:
    """Texts of which the first to be complete ends what is written; the longest, where several end there.

    Args:
      kept: whether the text ends after it, and not before.

    Raises:
      UserError: one is empty.
    """

    texts: tuple[str, ...] = ()
    kept: bool = False

    def __post_init__(self):
        if "" in self.texts:
            raise UserError("a stop string is empty", where="config.sample.stop_strings", fix="leave it out")

    def end(self, text: str, start: int) -> int | None:
        """Where a text ends that goes on being written from ``start`` on; None where it goes on."""
        found = [(at + len(stop), at) for stop in self.texts if (at := text.find(stop, start)) >= 0]
        return min(found)[0 if self.kept else 1] if found else None

    def pending(self, text: str, start: int) -> int:
        """How many characters at the end of a text may begin a stop string that is to be left out."""
        longest = 0 if self.kept else max(map(len, self.texts), default=1) - 1
        for size in range(min(longest, len(text) - start), 0, -1):
            if any(len(stop) > size and stop.startswith(text[-size:]) for stop in self.texts):
                return size
        return 0


NO_STOPS = StopStrings()


def stops_of(sample: SampleConfig) -> StopStrings:
    """The stop strings, one or several.

    Raises:
      UserError: one is empty.
    """
    given = sample.stop_strings
    return StopStrings((given,) if isinstance(given, str) else given, sample.include_stop_str_in_output)


class TextStream:
    """Turns ids that arrive piece by piece into text that never has to be taken back.

    A token may end within a character; its bytes wait until the rest of them has come. So do all of a row of byte tokens
    that is decoded as a whole, until another token ends the row. What may become a stop string waits too.

    Args:
      ids: those before the first piece; their text counts as already written.
      complete: whether a character that ``ids`` end with is known to be one, and not the beginning of another.

    Attributes:
      stopped: whether a stop string was found; what arrives after it is left out.
      ids: of the text: those before and those that arrived, up to the one with which the stop string was complete.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        ids: Sequence[int] = (),
        complete: bool = False,
        stops: StopStrings = NO_STOPS,
    ):
        self._tokenizer, self._stops = tokenizer, stops
        self.ids, self.stopped = list(ids), False
        before = tokenizer.decode(self.ids)
        fused = self.ids and self.ids[-1] in tokenizer.fused_ids
        begun = before.rstrip(UNFINISHED) if fused else before.removesuffix(UNFINISHED)
        self._begin = self._written = len(before if complete else begun)

    def write(self, ids: Sequence[int]) -> str:
        """The text that became certain."""
        if self.stopped:
            return ""
        before = len(self.ids)
        self.ids += ids
        if self._stops.texts and (found := self._first_stop(before)):
            count, end = found
            del self.ids[count:]
            self.stopped = True
            return self._advance(self._tokenizer.decode(self.ids)[:end])
        end = len(self.ids)
        while end and self.ids[end - 1] in self._tokenizer.fused_ids:
            end -= 1
        text = self._tokenizer.decode(self.ids[:end]).removesuffix(UNFINISHED)
        return self._advance(text[: len(text) - self._stops.pending(text, self._begin)])

    def close(self) -> str:
        """What is left: U+FFFD where the ids ended within a character."""
        return "" if self.stopped else self._advance(self._tokenizer.decode(self.ids))

    def _first_stop(self, before: int) -> tuple[int, int] | None:
        """How many ids there are when a stop string is first complete, and where the text then ends. Ids up to ``before``
        hold none. So the pieces in which they arrive make no difference: what counts is the text after each."""
        whole = self._end_after(len(self.ids)) is not None
        for count in range(before + 1, len(self.ids) + 1):
            # Further ids add to a text without changing it, unless it ends within a row of bytes.
            if whole or self.ids[count - 1] in self._tokenizer.fused_ids:
                end = self._end_after(count)
                if end is not None:
                    return count, end
        return None

    def _end_after(self, count: int) -> int | None:
        return self._stops.end(self._tokenizer.decode(self.ids[:count]).rstrip(UNFINISHED), self._begin)

    def _advance(self, text: str) -> str:
        begin, self._written = self._written, max(self._written, len(text))
        return text[begin:]
