"""From problems to ids: shots and problem as turns of a dialogue, as the template of the run writes them, or as one text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.data.rendering import Encoded, Writer, dialogue, template_of
from gpt_jax.data.templates import Message, Piece
from gpt_jax.data.tokenizers import Tokenizer, writable
from gpt_jax.errors import UserError
from gpt_jax.judge.opened import Opened
from gpt_jax.judge.problems import Problem
from gpt_jax.judge.tasks import WHERE, Asking
from gpt_jax.sample.decode import Decoder


@dataclass(frozen=True, eq=False)
class Judged:
    """A model that is asked.

    Attributes:
      writer: of its dialogues.
      rows: answers that are written side by side.
    """

    decoder: Decoder
    writer: Writer
    rows: int

    @staticmethod
    def of(config: Config, decoder: Decoder, tokenizer: Tokenizer | None) -> "Judged":
        """
        Raises:
          UserError: its tokens are no text.
        """
        return Judged(decoder, writer_of(config, tokenizer), config.sample.rows)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.writer.tokenizer

    @property
    def context(self) -> int:
        return self.decoder.config.context

    def prompting(self, how: Asking) -> "Prompting":
        return Prompting(self.writer, self.context, how)


@dataclass(frozen=True)
class Prompting:
    """How the problems of a task are written for a model of so many tokens."""

    writer: Writer
    context: int
    how: Asking

    def prompts(self, problems: Sequence[Problem], shots: Sequence[Sequence[Problem]]) -> list[list[int]]:
        """The ids before an answer, one at least."""
        rows = [self._pieces(problem.prompt, before, None) for problem, before in zip(problems, shots, strict=True)]
        return [self._begun(found).ids.tolist() for found in self._encoded(rows)]

    def answered(
        self, prompts: Sequence[str | Sequence[Message]], shots: Sequence[Sequence[Problem]], answers: Sequence[str]
    ) -> list[tuple[list[int], int]]:
        """The ids of prompts with answers, up to the answer's last, and how many of them are the answer's."""
        rows = [self._pieces(*given) for given in zip(prompts, shots, answers, strict=True)]
        found = [self._begun(one) for one in self._encoded(rows)]
        return [(one.ids.tolist(), int(one.trained.sum())) for one in found]

    def fitting(self, opened: Opened) -> list[int]:
        """The numbers of the problems that fit into the context with an answer.

        Raises:
          UserError: none does, or some that fit alone do not after their shots.
        """
        every = range(len(opened.problems))
        alone = self._lengths(opened.problems, [()] * len(every))
        most = self.context + bool(opened.problems[0].options)  # the last token of an option is not read
        fitting = [i for i in every if alone[i] <= most]
        if not fitting:
            raise UserError(
                f"no problem of {opened.call} fits into a context of {self.context} tokens; the shortest has "
                f"{min(alone)} with its answer",
                where=WHERE,
                fix="a model with a longer context, or a source of shorter rows",
            )
        if self.how.shots:
            whole = self._lengths([opened.problems[i] for i in fitting], [opened.shots[i] for i in fitting])
            if max(whole) > most:
                raise UserError(
                    f"shots = {self.how.shots} of {opened.call} do not fit: a problem has {max(whole)} tokens with them and "
                    f"its answer, and the context {self.context}",
                    where=WHERE,
                    allowed=f"fewer: without any, the longest has {max(alone[i] for i in fitting)}",
                )
        return fitting

    def _lengths(self, problems: Sequence[Problem], shots: Sequence[Sequence[Problem]]) -> list[int]:
        """Tokens of each problem with its longest answer, with the token that ends it where it is written."""
        rows = [
            (problem.prompt, before, answer)
            for problem, before in zip(problems, shots, strict=True)
            for answer in problem.options or problem.answers
        ]
        sizes = iter([len(ids) for ids, _ in self.answered(*zip(*rows, strict=True))])
        return [
            max(next(sizes) for _ in problem.options or problem.answers) + (not problem.options) for problem in problems
        ]

    def _encoded(self, rows: Sequence[Sequence[Piece]]) -> list[Encoded]:
        if not self.how.delimiter:
            return self.writer.encode(rows)
        return Writer(registry.build("data.templates", "plain"), self.writer.tokenizer).encode(rows)

    def _pieces(self, prompt: str | Sequence[Message], shots: Sequence[Problem], answer: str | None) -> Sequence[Piece]:
        """Of a problem, with its answer or up to where it begins."""
        if self.how.delimiter:
            context = "".join(f"{_text(one.prompt)}{self.how.gap}{one.answers[0]}{self.how.delimiter}" for one in shots)
            pieces = [Piece(text=writable(context + _text(prompt)))]
            gap = self.how.gap
            # A blank before an answer is read with its first word, as tokenizers have it.
            return pieces if answer is None else [*pieces, Piece(text=writable(gap + answer), trained=True)]
        before = [message for one in shots for message in dialogue(one.prompt, one.answers[0])]
        messages = [*before, *dialogue(prompt)]
        if answer is None:
            return self.writer.pieces(messages, True, "problem")
        pieces = self.writer.answered(messages, answer, "problem")
        last = max((i for i, piece in enumerate(pieces) if piece.trained and piece.text is not None), default=-1)
        return pieces[: last + 1]

    def _begun(self, found: Encoded) -> Encoded:
        """With the token between documents before the first one, where nothing else is."""
        if len(found.ids) and not found.trained[0]:
            return found
        separator = self.writer.tokenizer.separator
        if separator is None:
            raise UserError(
                "the prompt is empty and this tokenizer has no token to start a document with", where="problem"
            )
        return Encoded(
            np.concatenate([np.array([separator], np.int32), found.ids]), np.concatenate([[False], found.trained])
        )


def writer_of(config: Config, tokenizer: Tokenizer | None) -> Writer:
    """What writes the dialogues of a run.

    Raises:
      UserError: its tokens are no text.
    """
    if tokenizer is None:
        raise UserError(
            "tasks are texts, and the tokens of this run are none",
            where="config.data.tokenizer",
            fix="a run with a tokenizer",
        )
    return Writer(template_of(config), tokenizer)


def _text(prompt: str | Sequence[Message]) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
