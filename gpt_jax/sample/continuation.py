"""What a model wrote after its prompts, to be read, printed and shown in notebooks."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from gpt_jax import notebook
from gpt_jax.sample.speculative.acceptance import Acceptance
from gpt_jax.storage import to_json

ALWAYS = ("prompt", "text")  # in a record, though they are None without a tokenizer
SHOWN = 60  # characters of a text in ``repr``


@dataclass(frozen=True, repr=False)
class Continuation:
    """A prompt and what follows it; ``str`` is both as one text, or as ids where there is no tokenizer.

    Attributes:
      prompt, text: None without a tokenizer. A stop id that ended the text is among ``ids`` but not in ``text``.
      prompt_ids, ids: the same as token ids.
      logprobs: natural logarithm of the model's own probability of each of ``ids``, before any processor.
      finish_reason: why it ended: "stop" (a stop id, or a complete constraint), "stop_string" or "length".
      final_logprobs, entropy, top_ids, top_logprobs, final_top_logprobs: with ``sample.logprobs``, of each of ``ids``, as
        ``gpt_jax.sample.engine.notes`` has them; else None.
      prompt_logprobs: with ``sample.prompt_logprobs``, the same as ``logprobs`` of each of ``prompt_ids``; None for the
        first, which nothing predicts.
      score: what a search ranked it by (docs/sampling.md); None where there was none.
      acceptance: of the tokens that were drafted, where there were any; ``str`` of the sum of several says how it went.
    """

    prompt: str | None
    text: str | None
    prompt_ids: list[int] = field(hash=False)
    ids: list[int] = field(hash=False)
    logprobs: list[float] = field(hash=False)
    finish_reason: str = "length"
    final_logprobs: list[float] | None = field(default=None, hash=False)
    entropy: list[float] | None = field(default=None, hash=False)
    top_ids: list[list[int]] | None = field(default=None, hash=False)
    top_logprobs: list[list[float]] | None = field(default=None, hash=False)
    final_top_logprobs: list[list[float]] | None = field(default=None, hash=False)
    prompt_logprobs: list[float | None] | None = field(default=None, hash=False)
    score: float | None = None
    acceptance: Acceptance | None = None

    def __str__(self) -> str:
        return f"{self.prompt}{self.text}" if self.text is not None else " ".join(map(str, self.prompt_ids + self.ids))

    def __repr__(self) -> str:
        shown = str(self)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
        return f"Continuation({shown!r}, {len(self.ids)} new tokens, {self.nats})"

    @property
    def record(self) -> dict[str, Any]:
        """The fields as JSON has them; those that were not asked for are left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["acceptance"] = None if self.acceptance is None else asdict(self.acceptance)
        return {name: to_json(value) for name, value in values.items() if name in ALWAYS or value is not None}

    @property
    def nats(self) -> str:
        """What the model itself loses on the new tokens, to be read."""
        return f"{-sum(self.logprobs) / len(self.ids):.2f} nats/token" if self.ids else "nothing written"

    def _repr_html_(self) -> str:
        return Continuations([self])._repr_html_()


class Continuations(list[Continuation]):
    """Several; ``text``, ``ids``, ``logprobs`` and ``finish_reason`` are lists, a row a text."""

    @property
    def text(self) -> list[str | None]:
        return [row.text for row in self]

    @property
    def ids(self) -> list[list[int]]:
        return [row.ids for row in self]

    @property
    def logprobs(self) -> list[list[float]]:
        return [row.logprobs for row in self]

    @property
    def finish_reason(self) -> list[str]:
        return [row.finish_reason for row in self]

    def __str__(self) -> str:
        return "\n".join(f"--- sample {number}\n{row}" for number, row in enumerate(self, start=1))

    def _repr_html_(self) -> str:
        head = ["prompt", "continuation", "tokens", "nats/token"]
        return notebook.table([head, *(_cells(row) for row in self)])


def _cells(row: Continuation) -> list[str]:
    ids = (" ".join(map(str, row.prompt_ids)), " ".join(map(str, row.ids)))
    prompt, text = ids if row.text is None else (str(row.prompt), row.text)
    return [prompt, text, str(len(row.ids)), row.nats.removesuffix(" nats/token")]
