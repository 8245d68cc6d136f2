"""What a model wrote after its prompts, to be read, printed and shown in notebooks."""

from dataclasses import dataclass, field

from gpt_jax import notebook

SHOWN = 60  # characters of a text in ``repr``


@dataclass(frozen=True, repr=False)
class Continuation:
    """A prompt and what follows it; ``str`` is both as one text, or as ids where there is no tokenizer.

    Attributes:
      prompt, text: None without a tokenizer. A stop id that ended the text is among ``ids`` but not in ``text``.
      prompt_ids, ids: the same as token ids.
      logprobs: natural logarithm of the model's own probability of each of ``ids``, before temperature, top-k and top-p.
    """

    prompt: str | None
    text: str | None
    prompt_ids: list[int] = field(hash=False)
    ids: list[int] = field(hash=False)
    logprobs: list[float] = field(hash=False)

    def __str__(self) -> str:
        return f"{self.prompt}{self.text}" if self.text is not None else " ".join(map(str, self.prompt_ids + self.ids))

    def __repr__(self) -> str:
        shown = str(self)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
        return f"Continuation({shown!r}, {len(self.ids)} new tokens, {self.nats})"

    @property
    def nats(self) -> str:
        """What the model itself loses on the new tokens, to be read."""
        return f"{-sum(self.logprobs) / len(self.ids):.2f} nats/token" if self.ids else "nothing written"

    def _repr_html_(self) -> str:
        return Continuations([self])._repr_html_()


class Continuations(list[Continuation]):
    """Several; ``text``, ``ids`` and ``logprobs`` are lists, a row a prompt."""

    @property
    def text(self) -> list[str | None]:
        return [row.text for row in self]

    @property
    def ids(self) -> list[list[int]]:
        return [row.ids for row in self]

    @property
    def logprobs(self) -> list[list[float]]:
        return [row.logprobs for row in self]

    def __str__(self) -> str:
        return "\n".join(f"--- sample {number}\n{row}" for number, row in enumerate(self, start=1))

    def _repr_html_(self) -> str:
        head = ["prompt", "continuation", "tokens", "nats/token"]
        return notebook.table([head, *(_cells(row) for row in self)])


def _cells(row: Continuation) -> list[str]:
    ids = (" ".join(map(str, row.prompt_ids)), " ".join(map(str, row.ids)))
    prompt, text = ids if row.text is None else (str(row.prompt), row.text)
    return [prompt, text, str(len(row.ids)), row.nats.removesuffix(" nats/token")]
