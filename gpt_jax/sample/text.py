"""What a trained model writes, as text, ids or JSON lines."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from gpt_jax.config import ModelConfig, SampleConfig
from gpt_jax.errors import UserError
from gpt_jax.sample.continuation import Continuation
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.prompts import Prompt, Tokenizer, encoded, lengths, note_shortened, note_unopened, read_prompts

ROWS = 8  # prompts that are continued side by side; a file may hold any number
UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what decoding makes of a character whose last bytes are still to come


class TextStream:
    """Turns ids that arrive piece by piece into text that never has to be taken back.

    A token may end within a character; its bytes wait until the rest of them has come. So do all of a row of byte tokens
    that is decoded as a whole, until another token ends the row.

    Args:
      ids: those before the first piece; their text counts as already written.
      complete: whether a character that ``ids`` end with is known to be one, and not the beginning of another.
    """

    def __init__(self, tokenizer: Tokenizer, ids: Sequence[int] = (), complete: bool = False):
        self._tokenizer, self._ids = tokenizer, list(ids)
        before = tokenizer.decode(self._ids)
        fused = self._ids and self._ids[-1] in tokenizer.fused_ids
        begun = before.rstrip(UNFINISHED) if fused else before.removesuffix(UNFINISHED)
        self._written = len(before if complete else begun)

    def write(self, ids: Sequence[int]) -> str:
        """The text that became certain."""
        self._ids += ids
        end = len(self._ids)
        while end and self._ids[end - 1] in self._tokenizer.fused_ids:
            end -= 1
        return self._advance(self._tokenizer.decode(self._ids[:end]).removesuffix(UNFINISHED))

    def close(self) -> str:
        """What is left: U+FFFD where the ids ended within a character."""
        return self._advance(self._tokenizer.decode(self._ids))

    def _advance(self, text: str) -> str:
        begin, self._written = self._written, max(self._written, len(text))
        return text[begin:]


def sample_command(
    model: ModelConfig,
    params: dict,
    tokenizer: Tokenizer | None,
    sample: SampleConfig,
    prompts: Mapping[str, str | None],
    output: str,
    exact: bool = False,
) -> None:
    """Continues prompts and prints them: a single text as it is written, several side by side.

    Args:
      params: in the layout that ``model.scan`` says.
      prompts: see ``read_prompts``. Prompt i is continued with the seed ``sample.seed`` + i.
      output: "text" (the prompt and what follows), "ids" (the same) or "jsonl" (the fields of a ``Continuation``).
      exact: see ``lengths``.

    Raises:
      UserError: a prompt cannot be read or continued, or the data has no tokenizer for "text".
    """
    found = read_prompts(prompts, sample, tokenizer)
    if output == "text" and tokenizer is None:
        raise UserError("this run's data has no tokenizer", where="--output", allowed="ids, jsonl")
    new = lengths(found, model, sample.max_new_tokens, exact, tokenizer)
    note_shortened(new, model, sample.max_new_tokens)
    note_unopened(found, tokenizer)
    decoder = Decoder(model, params)
    if output == "text" and tokenizer is not None and len(found) == 1:
        _print_live(decoder, found[0], tokenizer, replace(sample, max_new_tokens=new[0]))
        return
    for number, row in enumerate(written(decoder, found, new, sample, tokenizer), start=1):
        if output == "text":
            print(f"--- sample {number}\n{row}", flush=True)
        elif output == "jsonl":
            print(json.dumps(asdict(row), ensure_ascii=not _writes_unicode()), flush=True)
        else:
            print(*row.prompt_ids, *row.ids, flush=True)


def _writes_unicode() -> bool:
    """Whether standard output takes every character; JSON can escape what it does not."""
    return (sys.stdout.encoding or "utf-8").lower().startswith("utf")


def continuations(model: ModelConfig, params: dict, tokenizer: Tokenizer, sample: SampleConfig) -> list[str]:
    """``sample.prompts``, each with what the model writes after it, as far as its context reaches.

    Raises:
      UserError: a prompt is longer than the context, or is no text of this tokenizer.
    """
    prompts = [encoded(text, "sample.prompts", tokenizer) for text in sample.prompts]
    new = lengths(prompts, model, sample.max_new_tokens, exact=False, tokenizer=tokenizer)
    return [str(row) for row in written(Decoder(model, params), prompts, new, sample, tokenizer)]


def written(
    decoder: Decoder,
    prompts: Sequence[Prompt],
    lengths: Sequence[int],
    sample: SampleConfig,
    tokenizer: Tokenizer | None,
) -> Iterator[Continuation]:
    """Every prompt continued by its length, prompt i with the seed ``sample.seed`` + i."""
    sampling = _sampling(sample, tokenizer)
    for first in range(0, len(prompts), ROWS):
        group = prompts[first : first + ROWS]
        found = decoder.generate(
            [prompt.ids for prompt in group],
            max_new_tokens=lengths[first : first + ROWS],
            sampling=sampling,
            seeds=[(sample.seed + first + row) % 2**32 for row in range(len(group))],
        )
        for prompt, ids, logprobs in zip(group, found.tokens, found.logprobs, strict=True):
            texts = _texts(prompt, ids, tokenizer)
            yield Continuation(*texts, prompt.ids, ids, logprobs)


def _texts(prompt: Prompt, new: list[int], tokenizer: Tokenizer | None) -> tuple[str | None, str | None]:
    """The prompt and what follows it."""
    if tokenizer is None:
        return prompt.text, None
    stream = TextStream(tokenizer, prompt.ids, complete=prompt.text is not None)
    text = stream.write(_unstopped(new, tokenizer)) + stream.close()
    return tokenizer.decode(prompt.ids) if prompt.text is None else prompt.text, text


def _print_live(decoder: Decoder, prompt: Prompt, tokenizer: Tokenizer, sample: SampleConfig) -> None:
    sampling = _sampling(sample, tokenizer)
    stream = TextStream(tokenizer, prompt.ids, complete=prompt.text is not None)
    print(tokenizer.decode(prompt.ids) if prompt.text is None else prompt.text, end="", flush=True)
    parts = decoder.stream([prompt.ids], max_new_tokens=sample.max_new_tokens, sampling=sampling, seeds=[sample.seed])
    for part in parts:
        print(stream.write(_unstopped(part.tokens[0], tokenizer)), end="", flush=True)
    print(stream.close(), flush=True)


def _sampling(sample: SampleConfig, tokenizer: Tokenizer | None) -> Sampling:
    stop_ids = () if tokenizer is None else tokenizer.stop_ids
    return Sampling(sample.temperature, sample.top_k, sample.top_p, stop_ids)


def _unstopped(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    return ids[:-1] if ids and ids[-1] in tokenizer.stop_ids else ids
