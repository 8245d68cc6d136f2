"""The JSON of answers, whole or in chunks, as OpenAI's API has it."""

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gpt_jax.data.templates import ASSISTANT
from gpt_jax.sample.likelihood import Likelihood
from gpt_jax.sample.prompts import Prompt
from gpt_jax.serve.runs import ServedRun
from gpt_jax.serve.tickets import Piece, Text, Token


@dataclass
class Choice:
    """One text of an answer, as far as it has come."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish: str | None = None
    count: int = 0
    prompt: Likelihood | None = None

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.tokens += piece.tokens
        self.finish, self.count = piece.finish, piece.count
        self.prompt = piece.prompt or self.prompt


class Answer(ABC):
    """What becomes of the pieces of one request.

    Args:
      samples: of each prompt.

    Attributes:
      whole, chunk: the names of an answer and of a part of one in a stream.
    """

    prefix: str
    whole: str
    chunk: str

    def __init__(self, run: ServedRun, texts: Sequence[Text], samples: int):
        self.run, self.texts, self._samples = run, texts, samples
        self.choices = [Choice() for _ in texts]
        self._head = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": run.name,
            "system_fingerprint": run.fingerprint,
        }

    @property
    def usage(self) -> dict[str, int]:
        prompts = sum(len(text.ids) for text in self.texts[:: self._samples])
        written = sum(choice.count for choice in self.choices)
        return {"prompt_tokens": prompts, "completion_tokens": written, "total_tokens": prompts + written}

    def complete(self) -> dict[str, Any]:
        """The answer, once every text has ended."""
        choices = [self.choice(index, choice) for index, choice in enumerate(self.choices)]
        return {**self._head, "object": self.whole, "choices": choices, "usage": self.usage}

    def opening(self) -> list[dict[str, Any]]:
        """The chunks that a stream begins with."""
        return []

    def add(self, piece: Piece) -> dict[str, Any]:
        """The chunk of a piece."""
        self.choices[piece.index].add(piece)
        return self.chunked([self.part(piece)])

    def chunked(self, choices: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
        return {**self._head, "object": self.chunk, "choices": choices, **rest}

    @abstractmethod
    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """A text of the whole answer."""

    @abstractmethod
    def part(self, piece: Piece) -> dict[str, Any]:
        """A text's part in a chunk."""


class ChatAnswer(Answer):
    """Of /v1/chat/completions."""

    prefix, whole, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def opening(self) -> list[dict[str, Any]]:
        delta = {"role": ASSISTANT, "content": ""}
        return [
            self.chunked([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])
            for index in range(len(self.texts))
        ]

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        message = {"role": ASSISTANT, "content": choice.text, "refusal": None}
        logprobs = self._logprobs(index, choice.tokens)
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish}

    def part(self, piece: Piece) -> dict[str, Any]:
        delta = {"content": piece.text} if piece.text else {}
        logprobs = self._logprobs(piece.index, piece.tokens) if piece.tokens else None
        return {"index": piece.index, "delta": delta, "logprobs": logprobs, "finish_reason": piece.finish}

    def _logprobs(self, index: int, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if self.texts[index].top is None:
            return None
        return {"content": [self._token(token) for token in tokens], "refusal": None}

    def _token(self, token: Token) -> dict[str, Any]:
        top = zip(token.top_ids, token.top_logprobs, strict=True)
        return {**self._entry(token.id, token.logprob), "top_logprobs": [self._entry(*one) for one in top]}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        spelling = self.run.spelling
        return {"token": spelling.text(token), "logprob": logprob, "bytes": spelling.bytes_of(token)}


class CompletionAnswer(Answer):
    """Of /v1/completions.

    Args:
      echoed: the prompts, where answers begin with them.
    """

    prefix, whole, chunk = "cmpl", "text_completion", "text_completion"

    def __init__(self, run: ServedRun, texts: Sequence[Text], samples: int, echoed: Sequence[Prompt] | None):
        super().__init__(run, texts, samples)
        self._echoed = echoed
        self._sent = [False] * len(texts)

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        echo = self._echo(index)
        logprobs = self._logprobs(index, choice.prompt, choice.tokens, len(echo))
        return {"index": index, "text": echo + choice.text, "logprobs": logprobs, "finish_reason": choice.finish}

    def part(self, piece: Piece) -> dict[str, Any]:
        echo = self._echo(piece.index)
        text, self._sent[piece.index] = piece.text if self._sent[piece.index] else echo + piece.text, True
        logprobs = self._logprobs(piece.index, piece.prompt, piece.tokens, len(echo))
        return {"index": piece.index, "text": text, "logprobs": logprobs, "finish_reason": piece.finish}

    def _echo(self, index: int) -> str:
        return "" if self._echoed is None else self.texts[index].before

    def _logprobs(
        self, index: int, prompt: Likelihood | None, tokens: Sequence[Token], start: int
    ) -> dict[str, Any] | None:
        top = self.texts[index].top
        if top is None:
            return None
        spell = self.run.spelling.text
        found: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        if prompt is not None:
            ids = self.texts[index].ids
            found["tokens"] += map(spell, ids)
            found["token_logprobs"] += [None, *prompt.logprobs]
            given = zip(ids[1:], prompt.logprobs, prompt.top_ids, prompt.top_logprobs, strict=True)
            found["top_logprobs"] += [None, *(self._top(id, own, of[:top], values) for id, own, of, values in given)]
            found["text_offset"] += self._offsets(self.texts[index])
        begins = [0, *(token.end for token in self.choices[index].tokens)]
        first = len(self.choices[index].tokens) - len(tokens)
        for token, begin in zip(tokens, begins[first:], strict=False):
            found["tokens"].append(spell(token.id))
            found["token_logprobs"].append(token.logprob)
            found["top_logprobs"].append(self._top(token.id, token.logprob, token.top_ids, token.top_logprobs))
            found["text_offset"].append(start + begin)
        return found if top else {**found, "top_logprobs": None}

    def _offsets(self, text: Text) -> list[int]:
        """Where the prompt's tokens begin in the echo, which lacks what the tokenizer's ``opening`` adds to a text."""
        ends = self.run.spelling.ends([], text.ids)
        opened = text.whole and self.run.tokenizer.opening
        added = len(self.run.tokenizer.decode(list(text.ids))) - len(text.before) if opened else 0
        return [0, *(max(0, end - added) for end in ends[:-1])]

    def _top(self, token: int, logprob: float, ids: Sequence[int], logprobs: Sequence[float]) -> dict[str, float]:
        """The most likely tokens, and the one that there is."""
        spell = self.run.spelling.text
        return {**{spell(i): value for i, value in zip(ids, logprobs, strict=False)}, spell(token): logprob}
