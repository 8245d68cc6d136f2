"""What is typed: lines that are read until they end, and knobs that are turned in between."""

import ast
import contextlib
import dataclasses
import importlib
import io
import sys
from collections.abc import Callable
from typing import Any

from gpt_jax import bars
from gpt_jax.config import SampleConfig
from gpt_jax.errors import Failure
from gpt_jax.limits import section
from gpt_jax.registry import NO_LITERAL
from gpt_jax.sample import knobs
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.outputs import requests
from gpt_jax.sample.outputs.writing import vocabulary
from gpt_jax.sample.processors import Tokenizer


def each_line(do: Callable[[str], bool], greeting: str) -> None:
    """Calls ``do`` with each line that is typed, until it returns false or the lines end. What is wrong with one is said,
    and the next one read; Ctrl-C ends what is done with a line, and not the loop.

    Args:
      greeting: at a terminal, where lines are asked for; else nothing is printed besides what ``do`` prints.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):  # what is no UTF-8 becomes U+FFFD in a prompt
        sys.stdin.reconfigure(errors="surrogateescape")
    asks = bars.terminal(sys.stdin) and bars.terminal(sys.stdout)
    if asks:
        with contextlib.suppress(ImportError):  # some Pythons lack it; lines are then typed without a history
            importlib.import_module("readline")
        print(greeting, flush=True)
    while True:
        try:
            line = input("> " if asks else "")
        except EOFError:
            print(end="\n" if asks else "", flush=True)
            return
        except KeyboardInterrupt:
            print(flush=True)
            continue
        try:
            if not do(line):
                return
        except Failure as failure:
            print(f"error: {failure}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("\n(stopped)", flush=True)


def ready(decoder: Decoder, sample: SampleConfig, tokenizer: Tokenizer) -> Decoder:
    """The decoder, which compiles nothing more when a knob that is a number is turned.

    Raises:
      UserError: the settings cannot be followed.
    """
    given = vocabulary(decoder, sample, tokenizer)
    knobs.of_config(sample, given)
    return decoder.ready(knobs.ready(given, sample.order))


def turned(sample: SampleConfig, name: str, text: str, decoder: Decoder, tokenizer: Tokenizer) -> SampleConfig:
    """The settings with a knob of ``requests.OF_A_LINE`` set to what a text says.

    Raises:
      UserError: it is no value of this knob, or contradicts another one.
    """
    changed = section(SampleConfig, dataclasses.asdict(sample) | {name: _value(text, getattr(sample, name))}, "sample")
    return followed(changed, decoder, tokenizer)


def followed(sample: SampleConfig, decoder: Decoder, tokenizer: Tokenizer) -> SampleConfig:
    """The same settings.

    Raises:
      UserError: they contradict each other, or do not fit the model.
    """
    requests.check(sample, decoder.config, "")
    knobs.of_config(sample, vocabulary(decoder, sample, tokenizer))
    return sample


def _value(text: str, now: Any) -> Any:
    """What is meant by the text of a value: a literal, or a text as it stands; a single one where the knob takes several."""
    spelt = {"true": True, "false": False}
    try:
        value = spelt[text.lower()] if text.lower() in spelt else ast.literal_eval(text)
    except NO_LITERAL:
        value = text
    return value if not isinstance(now, tuple) or isinstance(value, tuple | list) else (value,)
