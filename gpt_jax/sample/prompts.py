"""Where prompts come from: a text, messages, token ids, a file of these, or the run's own ``sample.prompts``."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax.config import Config, ModelConfig, SampleConfig
from gpt_jax.data import tokenizers
from gpt_jax.data.rendering import Writer, dialogue, template_of
from gpt_jax.data.templates import Message
from gpt_jax.data.tokenizers import writable
from gpt_jax.errors import UserError
from gpt_jax.sample.engine.context import REFUSE, check
from gpt_jax.sample.processors import Tokenizer
from gpt_jax.storage import local_path

LINE = '{"prompt": "text"}, {"messages": […]} or {"ids": [5, 17, 3]} on every line, with knobs of its own if any'
_GIVEN = {"prompt", "messages", "ids"}  # of which a line has one


@dataclass(frozen=True)
class Prompt:
    """What to continue; ``text`` is None where ids were given, and has special tokens spelt where a template wrote some,
    ``where`` is for error messages, and ``own`` are knobs of sampling that hold for this prompt alone."""

    ids: list[int]
    text: str | None
    where: str
    own: Mapping[str, Any] = field(default_factory=dict)


def writer_of(config: Config, tokenizer: tokenizers.Tokenizer | None) -> Writer | None:
    """What writes the prompts of a run as its dialogues are written; None where texts are continued as they stand."""
    if tokenizer is None or not config.sample.templated:
        return None
    return Writer(template_of(config), tokenizer)


def read_prompts(
    given: Mapping[str, str | None],
    sample: SampleConfig,
    tokenizer: Tokenizer | None,
    writer: Writer | None = None,
) -> list[Prompt]:
    """The prompts of the command line.

    Args:
      given: at most one of "prompt" (a text), "prompt_ids" ("5 17 3") and "prompts" (a JSONL file); without one,
        ``sample.prompts`` are continued.
      writer: see ``prompt_of``.

    Raises:
      UserError: several are given, or one cannot be read.
    """
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) > 1:
        raise UserError(f"--{chosen[0]} and --{chosen[1]} cannot be used together", where="command line")
    name = chosen[0] if chosen else "sample.prompts"
    value = given[name] if chosen else None
    if value is None:
        prompts = [prompt_of(text, name, tokenizer, writer) for text in sample.prompts]
        if not prompts:
            raise UserError("there is no prompt", where="command line", allowed="--prompt, --prompt_ids or --prompts")
    elif name == "prompts":
        prompts = _from_file(local_path(value, "--prompts"), tokenizer, writer)
    elif name == "prompt_ids":
        prompts = [Prompt(token_ids(value.replace(",", " ").split(), f"--{name}"), None, f"--{name}")]
    else:
        prompts = [prompt_of(value, f"--{name}", tokenizer, writer)]
    return prompts


def length(
    prompt: Prompt,
    model: ModelConfig,
    wanted: int,
    exact: bool,
    tokenizer: Tokenizer | None,
    beyond: str = REFUSE,
    negative: int = 0,
) -> int:
    """How many new tokens a prompt gets: ``wanted``, or what is left of the context where that is less.

    Args:
      tokenizer: of the prompt, which may have ids beyond the model's; None where there is none.
      exact: whether ``wanted`` was asked for, so that one which does not fit is refused instead.
      beyond: ``sample.beyond_context``; where it does not refuse what is longer than the context, every one gets ``wanted``.
      negative: tokens of the negative prompt, which the new ones follow too.

    Raises:
      UserError: the model cannot continue the prompt.
    """
    outside = next((i for i in prompt.ids if i >= model.vocab and prompt.text is not None), None)
    if outside is not None and tokenizer is not None:
        raise UserError(
            f"the token {tokenizer.decode([outside])!r}, id {outside}, is outside the model's vocabulary",
            where=prompt.where,
            allowed=f"texts whose ids are below {model.vocab}",
        )
    room = max(0, model.context - max(len(prompt.ids), negative))
    found = wanted if exact or beyond != REFUSE else min(wanted, room)
    check(model, prompt.ids, found, prompt.where, beyond)
    return found


def note_shortened(lengths: Sequence[int], model: ModelConfig, wanted: int) -> None:
    """Says on standard error that texts end earlier than ``wanted``, where some do."""
    if short := sorted({length for length in lengths if length < wanted}):
        room = " to ".join(map(str, dict.fromkeys([short[0], short[-1]])))
        print(f"note: {room} new tokens instead of {wanted}, up to the context of {model.context}", file=sys.stderr)


def note_unopened(prompts: Sequence[Prompt], tokenizer: Tokenizer | None) -> None:
    """Says on standard error what the tokenizer's file puts before a text, where texts are continued without it."""
    if tokenizer is None or not tokenizer.unopened:
        return
    texts = [prompt for prompt in prompts if prompt.text is not None]
    if any(tokenizer.decode(prompt.ids[:1]) != tokenizer.unopened for prompt in texts):
        print(f"note: prompts begin without {tokenizer.unopened}, as the documents of training do", file=sys.stderr)


def prompt_of(
    given: str | Sequence[Message], where: str, tokenizer: Tokenizer | None, writer: Writer | None = None
) -> Prompt:
    """A text or messages as a prompt.

    Args:
      writer: writes them as messages that the assistant is to answer, a text as the user's; None: a text is continued as it
        stands.

    Raises:
      UserError: there is no tokenizer, or the messages are none that the template can write.
    """
    if writer is None or tokenizer is None:
        if isinstance(given, str) or tokenizer is None:
            return encoded(str(given), where, tokenizer)
        raise UserError("messages are written by a template", where=where, fix="--sample.templated=True")
    messages = dialogue(given)
    (found,) = writer.write([messages], answer=True, place=lambda i: where)
    return _begun(found.ids.tolist(), writer.spelt(messages, True, where), where, tokenizer)


def any_prompt(given: Any, where: str, tokenizer: Tokenizer | None, writer: Writer | None) -> Prompt:
    """A text, messages or ids [T] as a prompt; see ``prompt_of``."""
    if isinstance(given, str) or is_dialogue(given):
        return prompt_of(given, where, tokenizer, writer)
    return Prompt(token_ids(np.asarray(given, object).tolist(), where), None, where)


def is_dialogue(given: Any) -> bool:
    """Whether it is meant as messages."""
    return isinstance(given, list | tuple) and any(isinstance(message, Mapping) for message in given)


def encoded(text: str, where: str, tokenizer: Tokenizer | None) -> Prompt:
    """A text as a prompt, after the tokenizer's ``opening``."""
    if tokenizer is None:
        raise UserError(
            "this run's data has no tokenizer, so a text cannot be continued",
            where=where,
            fix='give token ids: --prompt_ids="5 17 3"',
        )
    text = writable(text)
    return _begun([*tokenizer.opening, *tokenizer.encode(text).tolist()], text, where, tokenizer)


def _begun(ids: list[int], text: str, where: str, tokenizer: Tokenizer) -> Prompt:
    """A prompt; one without ids becomes the token between documents, after which a new one starts."""
    if not ids and tokenizer.separator is not None:
        ids = [tokenizer.separator]
    if not ids:
        raise UserError(
            "the prompt is empty and this tokenizer has no token to start a document with",
            where=where,
            fix="start it with at least one character",
        )
    return Prompt(ids, text, where)


def _from_file(path: Path, tokenizer: Tokenizer | None, writer: Writer | None) -> list[Prompt]:
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", where="--prompts") from None
    prompts = [
        _from_line(line, f"{path}:{number}", tokenizer, writer)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not prompts:
        raise UserError(f"{path} holds no prompt", where="--prompts", allowed=LINE)
    return prompts


def _from_line(line: bytes, where: str, tokenizer: Tokenizer | None, writer: Writer | None) -> Prompt:
    try:
        record: dict[str, Any] = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"the line is not JSON: {error}", where=where, allowed=LINE) from None
    match record:
        case {"prompt": str() | list() as given, **own} | {"messages": list(given), **own} if not _GIVEN & own.keys():
            return replace(prompt_of(given, where, tokenizer, writer), own=dict(own))
        case {"ids": list(ids), **own} if not _GIVEN & own.keys():
            return Prompt(token_ids(ids, where), None, where, dict(own))
    raise UserError("the line is not a prompt", where=where, allowed=LINE)


def token_ids(values: list, where: str) -> list[int]:
    """Ids as whole numbers.

    Raises:
      UserError: one of them is none.
    """
    for value in values:
        if isinstance(value, bool | float) or not str(value).removeprefix("-").isdecimal():
            raise UserError(f"{value!r} is not a token id", where=where, allowed="whole numbers from 0")
    return [int(value) for value in values]
