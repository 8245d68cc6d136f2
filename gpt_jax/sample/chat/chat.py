"""A conversation with a model: its messages, the knobs of its answers, and the next answer."""

import dataclasses
from collections.abc import Iterator

from gpt_jax.config import SampleConfig
from gpt_jax.data.rendering import Writer
from gpt_jax.data.templates import ASSISTANT, SYSTEM, USER, Message
from gpt_jax.data.tokenizers import writable
from gpt_jax.errors import Failure, UserError
from gpt_jax.sample.chat.fitting import fit, parts, remembers, room
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.outputs import requests
from gpt_jax.sample.outputs.typed import followed, ready, turned
from gpt_jax.sample.outputs.writing import pieces
from gpt_jax.sample.searches.chosen import chosen

EXACT = "max_new_tokens"  # once it is asked for, it has to fit


class Chat:
    """An answer is a function of the messages, the knobs and the seed.

    Args:
      writer: of the run's template, which has a place for more than running text.
      exact: whether ``sample.max_new_tokens`` was asked for, so that all of it is kept free in the context.
      system: the system's message; empty = none.

    Attributes:
      messages: so far.
      sample: the knobs of the next answer.
      first: those that the chat began with.
      left_out: how many turns the last answer did not know, as they did not fit.
      remembers: whether the template has a place for earlier turns; without one, each message is answered by itself.

    Raises:
      UserError: the settings cannot be followed, or the template has no place for a system's message.
    """

    def __init__(self, decoder: Decoder, writer: Writer, sample: SampleConfig, exact: bool, system: str = ""):
        self.first = self.sample = dataclasses.replace(sample, num_return_sequences=1)
        if chosen(self.first) is not None:
            raise UserError(
                "an answer is written a token at a time, and not searched for",
                where="config.sample",
                fix="--sample.num_beams=1 --sample.penalty_alpha=0 --sample.best_of=1 --sample.exact_nodes=0",
            )
        self.writer, self.exact, self._first_exact = writer, exact, exact
        self.messages: tuple[Message, ...] = ()
        self.left_out, self.remembers = 0, remembers(writer)
        self._decoder = ready(decoder, self.first, writer.tokenizer)
        self.say_first(system)

    def say(self, text: str) -> None:
        """Adds a message of the user."""
        self.messages = (*self.messages, {"role": USER, "content": writable(text)})

    def say_first(self, system: str) -> None:
        """Sets the system's message, or removes it where the text is empty.

        Raises:
          UserError: the template has no place for one.
        """
        before = [{"role": SYSTEM, "content": writable(system)}] if system else []
        self.writer.pieces([*before, {"role": USER, "content": "a question"}], True, "the system's message")
        self.messages = (*before, *(message for turn in parts(self.messages)[1] for message in turn))

    def take_back(self) -> str:
        """Removes the last turn and returns what the user said in it.

        Raises:
          UserError: there is none.
        """
        system, turns = parts(self.messages)
        if not turns:
            raise UserError("nothing has been said yet")
        self.messages = tuple(message for part in (system, *turns[:-1]) for message in part)
        return turns[-1][0]["content"]

    def begin(self) -> None:
        """The conversation is empty again, but for the system's message, and the knobs are as they were at first."""
        self.messages = tuple(parts(self.messages)[0])
        self.sample, self.exact = self.first, self._first_exact

    def turn(self, knob: str, text: str) -> None:
        """Sets a knob.

        Raises:
          UserError: see ``turned``.
        """
        self.go_on_with(self.messages, turned(self.sample, knob, text, self._decoder, self.writer.tokenizer))
        self.exact = self.exact or knob == EXACT

    def go_on_with(self, messages: tuple[Message, ...], sample: SampleConfig) -> None:
        """Takes messages and knobs from elsewhere.

        Raises:
          UserError: the knobs contradict each other, or do not fit the model.
        """
        self.sample = followed(sample, self._decoder, self.writer.tokenizer)
        self.messages = messages

    def answer(self) -> Iterator[str]:
        """The answer to the last message, in pieces that end within no character. As far as it has come it is the next
        message, also where the caller ends it; ``left_out`` is known before the first piece.

        Raises:
          UserError: the message is too long for the context.
        """
        before, written, answered = self.messages, "", True
        system, turns = parts(before)
        asked = before if self.remembers else (*system, *turns[-1])
        model, tokenizer = self._decoder.config, self.writer.tokenizer
        try:
            fitted = fit(asked, self.writer, room(model, self.sample, self.exact))
            (request,) = requests.requests([fitted.prompt], model, self.sample, self.exact, tokenizer)
            self.left_out = fitted.left_out
            for piece, _ in pieces(self._decoder, request, tokenizer):
                written += piece
                yield piece
        except Failure:
            answered = False
            raise
        finally:  # a message that cannot be answered is taken back
            self.messages = (*before, {"role": ASSISTANT, "content": written}) if answered else before[:-1]
