"""What a trained model writes, as text, ids or JSON lines."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence

from gpt_jax import bars
from gpt_jax.config import ModelConfig, SampleConfig
from gpt_jax.data.rendering import Writer
from gpt_jax.errors import UserError
from gpt_jax.sample.continuation import Continuation
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.decoders import Decoders
from gpt_jax.sample.outputs.records import Records
from gpt_jax.sample.outputs.requests import Request, requests
from gpt_jax.sample.outputs.writing import pieces, written
from gpt_jax.sample.processors import Tokenizer
from gpt_jax.sample.prompts import note_shortened, note_unopened, prompt_of, read_prompts
from gpt_jax.sample.searches.chosen import chosen
from gpt_jax.sample.speculative import choice
from gpt_jax.sample.speculative.acceptance import Acceptance
from gpt_jax.sample.speculative.choice import Open


def sample_command(
    model: ModelConfig,
    params: dict,
    tokenizer: Tokenizer | None,
    sample: SampleConfig,
    prompts: Mapping[str, str | None],
    output: str,
    exact: bool = False,
    records: Records | None = None,
    opened: Open = choice.refused,
    writer: Writer | None = None,
) -> None:
    """Continues prompts and prints them: one text as it is written, several side by side, those of a search once found.

    Args:
      params: in the layout that ``model.scan`` says.
      prompts: see ``read_prompts``; for their seeds, see ``requests``.
      output: "text" (the prompt and what follows), "ids" (the same) or "jsonl" (the fields of a ``Continuation``).
      exact: whether ``sample.max_new_tokens`` was asked for, so that it has to fit.
      records: a file that takes the lines of "jsonl" in place of standard output, and holds some of them already.
      opened: reads the model that ``sample.draft`` names.
      writer: see ``prompts.prompt_of``.

    Raises:
      UserError: a prompt cannot be read or continued, knobs contradict each other, or the data has no tokenizer for
        "text".
    """
    found = read_prompts(prompts, sample, tokenizer, writer)
    if output == "text" and tokenizer is None:
        raise UserError("this run's data has no tokenizer", where="--output", allowed="ids, jsonl")
    asked = requests(found, model, sample, exact, tokenizer)
    note_shortened([r.length for r in asked if "max_new_tokens" not in r.prompt.own], model, sample.max_new_tokens)
    note_unopened(found, tokenizer)
    _note_left_out(sample, output)
    decoders = Decoders(model, params, tokenizer, opened)
    if records is not None:
        with records.open(asked) as file:
            rest = asked[file.count :]
            for request, row in _with_bar(rest, written(decoders.of(sample), rest, tokenizer), file.count):
                file.append(request, _record(request, row))
        return
    decoder, accepted = decoders.of(sample), Acceptance()
    if output == "text" and tokenizer is not None and len(asked) == 1 and chosen(sample) is None:
        print(_begun(asked[0], tokenizer), end="", flush=True)
        for piece, so_far in pieces(decoder, asked[0], tokenizer):
            print(piece, end="", flush=True)
            accepted = so_far or accepted
        print(flush=True)
        note_accepted(accepted)
        return
    alone = len(asked) == 1 and sample.num_return_sequences == 1
    for number, (request, row) in enumerate(_with_bar(asked, written(decoder, asked, tokenizer)), start=1):
        accepted += row.acceptance or Acceptance()
        if output == "text":
            print(row if alone else f"--- sample {number}\n{row}", flush=True)
        elif output == "jsonl":
            print(json.dumps(_record(request, row), ensure_ascii=not _writes_unicode()), flush=True)
        else:
            print(*row.prompt_ids, *row.ids, flush=True)
    note_accepted(accepted)


def _note_left_out(sample: SampleConfig, output: str) -> None:
    """Says on standard error that text shows no log-probabilities, where some are asked for."""
    if output == "text" and (sample.logprobs or sample.prompt_logprobs):
        print("note: log-probabilities are printed by --output=jsonl", file=sys.stderr)


def note_accepted(accepted: Acceptance) -> None:
    """Says on standard error how speculative decoding went, where there was some."""
    if accepted != Acceptance():
        print(f"note: {accepted}", file=sys.stderr)


def continuations(
    model: ModelConfig, params: dict, tokenizer: Tokenizer, sample: SampleConfig, writer: Writer | None = None
) -> list[str]:
    """``sample.prompts``, each with what the model writes after it a token at a time, as far as its context reaches.

    Args:
      writer: see ``prompts.prompt_of``.

    Raises:
      UserError: a prompt is longer than the context, or is no text of this tokenizer.
    """
    prompts = [prompt_of(text, "sample.prompts", tokenizer, writer) for text in sample.prompts]
    asked = requests(prompts, model, sample, exact=False, tokenizer=tokenizer)
    return [str(row) for _, row in written(Decoder(model, params), asked, tokenizer)]


def _with_bar(
    asked: Sequence[Request], pairs: Iterator[tuple[Request, Continuation]], before: int = 0
) -> Iterator[tuple[Request, Continuation]]:
    """Requests and their texts, with a bar on standard error where there are many and nothing else is drawn there."""
    shown = bool(asked) and len(asked) > asked[0].sample.rows and not bars.terminal(sys.stdout)
    return bars.bar(pairs, total=before + len(asked), initial=before, unit="text") if shown else pairs


def _record(request: Request, row: Continuation) -> dict:
    """A line of "jsonl"; where a prompt has several samples, it says which one this is."""
    return row.record | ({"sample": request.copy} if request.sample.num_return_sequences > 1 else {})


def _begun(request: Request, tokenizer: Tokenizer) -> str:
    prompt = request.prompt
    return tokenizer.decode(prompt.ids) if prompt.text is None else prompt.text


def _writes_unicode() -> bool:
    """Whether standard output takes every character; JSON can escape what it does not."""
    return (sys.stdout.encoding or "utf-8").lower().startswith("utf")
