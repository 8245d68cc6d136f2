"""What a trained model writes, as text, ids or JSON lines."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gpt_jax.config import ModelConfig, SampleConfig
from gpt_jax.errors import UserError
from gpt_jax.sample.decode import Decoder, Generated, Sampling
from gpt_jax.sample.prompts import Prompt, Tokenizer, encoded, read_prompts

ROWS = 8  # prompts that are continued side by side; a file may hold any number
UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what decoding makes of a character whose last bytes are still to come


class TextStream:
    """Turns ids that arrive piece by piece into text that never has to be taken back.

    A token may end within a character; its bytes wait until the rest of them has come.

    Args:
      ids: those before the first piece; their text counts as already written.
    """

    def __init__(self, tokenizer: Tokenizer, ids: Sequence[int] = ()):
        self._tokenizer, self._ids = tokenizer, list(ids)
        self._written = len(self._whole())

    def write(self, ids: Sequence[int]) -> str:
        """The text that became certain."""
        self._ids += ids
        return self._advance(self._whole())

    def close(self) -> str:
        """What is left: U+FFFD where the ids ended within a character."""
        return self._advance(self._tokenizer.decode(self._ids))

    def _whole(self) -> str:
        return self._tokenizer.decode(self._ids).removesuffix(UNFINISHED)

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
) -> None:
    """Continues prompts and prints them: a single text as it is written, several side by side.

    Args:
      params: in the layout that ``model.scan`` says.
      prompts: see ``read_prompts``. Prompt i is continued with the seed ``sample.seed`` + i.
      output: "text" (the prompt and what follows), "ids" (the same) or "jsonl" (see ``record``).

    Raises:
      UserError: a prompt cannot be read or continued, or the data has no tokenizer for "text".
    """
    found = read_prompts(prompts, sample, model, tokenizer)
    if output == "text" and tokenizer is None:
        raise UserError("this run's data has no tokenizer", where="--output", allowed="ids, jsonl")
    decoder, sampling = Decoder(model, params), _sampling(sample, tokenizer)
    if output == "text" and tokenizer is not None and len(found) == 1:
        _print_live(decoder, found[0], tokenizer, sample, sampling)
        return
    for first in range(0, len(found), ROWS):
        group = found[first : first + ROWS]
        written = _continue(decoder, group, sample, sampling, first)
        for row, prompt in enumerate(group):
            values = record(prompt, written, row, tokenizer, sampling.stop_id)
            if output == "text":
                print(f"--- sample {first + row + 1}\n{values['prompt']}{values['text']}", flush=True)
            else:
                ids = " ".join(map(str, prompt.ids + written.tokens[row]))
                print(json.dumps(values, ensure_ascii=False) if output == "jsonl" else ids, flush=True)


def continuations(model: ModelConfig, params: dict, tokenizer: Tokenizer, sample: SampleConfig) -> list[str]:
    """``sample.prompts``, each with what the model writes after it, as far as its context reaches.

    Raises:
      UserError: a prompt is longer than the context, or is no text of this tokenizer.
    """
    prompts = [encoded(text, "sample.prompts", tokenizer) for text in sample.prompts]
    room = model.context - max(len(prompt.ids) for prompt in prompts)
    sample = replace(sample, max_new_tokens=max(0, min(sample.max_new_tokens, room)))
    decoder, sampling = Decoder(model, params), _sampling(sample, tokenizer)
    texts = []
    for first in range(0, len(prompts), ROWS):
        group = prompts[first : first + ROWS]
        written = _continue(decoder, group, sample, sampling, first)
        rows = [record(prompt, written, row, tokenizer, sampling.stop_id) for row, prompt in enumerate(group)]
        texts += [f"{row['prompt']}{row['text']}" for row in rows]
    return texts


def record(prompt: Prompt, written: Generated, row: int, tokenizer: Tokenizer | None, stop_id: int | None) -> dict:
    """One line of JSON: the prompt and what follows it, each as text (null without a tokenizer) and as ids.

    "logprobs" holds the natural logarithm of the model's probability of each new id; a stop id that ended the text is
    among the ids but not in the text.
    """
    new = written.tokens[row]
    texts: dict[str, str | None] = {"prompt": prompt.text, "text": None}
    if tokenizer is not None:
        texts["prompt"] = tokenizer.decode(prompt.ids) if prompt.text is None else prompt.text
        stream = TextStream(tokenizer, prompt.ids)
        texts["text"] = stream.write(_unstopped(new, stop_id)) + stream.close()
    return {**texts, "prompt_ids": prompt.ids, "ids": new, "logprobs": written.logprobs[row]}


def _print_live(
    decoder: Decoder, prompt: Prompt, tokenizer: Tokenizer, sample: SampleConfig, sampling: Sampling
) -> None:
    stream = TextStream(tokenizer, prompt.ids)
    print(tokenizer.decode(prompt.ids) if prompt.text is None else prompt.text, end="", flush=True)
    parts = decoder.stream([prompt.ids], max_new_tokens=sample.max_new_tokens, sampling=sampling, seeds=[sample.seed])
    for part in parts:
        print(stream.write(_unstopped(part.tokens[0], sampling.stop_id)), end="", flush=True)
    print(stream.close(), file=sys.stdout, flush=True)


def _continue(
    decoder: Decoder, prompts: Sequence[Prompt], sample: SampleConfig, sampling: Sampling, first: int
) -> Generated:
    return decoder.generate(
        [prompt.ids for prompt in prompts],
        max_new_tokens=sample.max_new_tokens,
        sampling=sampling,
        seeds=[sample.seed + first + row for row in range(len(prompts))],
    )


def _sampling(sample: SampleConfig, tokenizer: Tokenizer | None) -> Sampling:
    stop_id = None if tokenizer is None else tokenizer.separator
    return Sampling(sample.temperature, sample.top_k, sample.top_p, stop_id)


def _unstopped(ids: list[int], stop_id: int | None) -> list[int]:
    return ids[:-1] if ids and ids[-1] == stop_id else ids
