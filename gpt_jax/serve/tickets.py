"""Requests on their way from the routes, which wait, to the engine, which writes."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from gpt_jax.sample.likelihood import Likelihood
from gpt_jax.sample.outputs.stream import NO_STOPS, StopStrings
from gpt_jax.sample.rows import Sampling
from gpt_jax.serve.faults import Fault
from gpt_jax.serve.runs import ServedRun


@dataclass(frozen=True)
class Text:
    """One text that is to be written.

    Attributes:
      ids: of the prompt.
      before: the prompt as text, where the new text continues it within a word; else empty.
      whole: whether the last character of the prompt is known to be complete.
      limit: new tokens at most; 0 where the prompt is only read.
      top: how many of the most likely tokens are reported of each place; None: nothing is reported of tokens.
      reads: whether the prompt's own tokens are reported too.
    """

    ids: Sequence[int]
    before: str
    whole: bool
    limit: int
    sampling: Sampling
    seed: int
    stops: StopStrings = NO_STOPS
    top: int | None = None
    reads: bool = False


@dataclass(frozen=True)
class Token:
    """A token with what was noted of it.

    Attributes:
      end: characters of the new text up to its end.
    """

    id: int
    logprob: float
    top_ids: list[int]
    top_logprobs: list[float]
    end: int


@dataclass(frozen=True)
class Piece:
    """What is new of a text.

    Attributes:
      index: of the text in its request.
      tokens: those that ``text`` completes, where they are reported.
      finish: why the text ended: "stop", "length" or "content_filter"; None where it goes on.
      count: tokens written so far.
      prompt: what the model gives to the prompt's own tokens, in the first piece where that is asked for.
    """

    index: int
    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish: str | None = None
    count: int = 0
    prompt: Likelihood | None = None


class Ticket:
    """A request of one or several texts. Its events are ``Piece``s, until each text has ended, or one ``Fault``.

    Args:
      seconds: until it is stopped early.

    Attributes:
      cancelled: whether nobody waits for it any more.
    """

    def __init__(self, run: ServedRun, texts: Sequence[Text], seconds: float):
        self.run, self.texts = run, texts
        self.begun = time.monotonic()
        self.deadline = self.begun + seconds
        self.cancelled = False
        self.left = len(texts)
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Piece | Fault] = asyncio.Queue()

    @property
    def over(self) -> bool:
        """Whether nothing more is to be done for it."""
        return self.cancelled or self.left <= 0

    def send(self, event: Piece | Fault) -> None:
        """Hands an event to the waiting route, from the engine's thread."""
        if isinstance(event, Fault):
            self.left = 0
        elif event.finish is not None:
            self.left -= 1
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the server's loop has ended
            self.cancelled = True

    async def event(self) -> Piece:
        """The next piece.

        Raises:
          Fault: the request cannot be answered.
        """
        event = await self._events.get()
        if isinstance(event, Fault):
            raise event
        return event

    def cancel(self) -> None:
        self.cancelled = True
