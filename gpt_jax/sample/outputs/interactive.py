"""A loop at the terminal: every line that is typed is continued, and lines that begin with a colon turn the knobs."""

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
from gpt_jax.data.rendering import Writer
from gpt_jax.errors import Failure, UserError, did_you_mean
from gpt_jax.limits import section
from gpt_jax.registry import NO_LITERAL
from gpt_jax.sample import knobs
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.outputs import requests
from gpt_jax.sample.outputs.writing import pieces, vocabulary
from gpt_jax.sample.processors import Tokenizer
from gpt_jax.sample.prompts import note_shortened, prompt_of

HELP = """a line        is continued; Ctrl-C stops the text
:knob value   sets a knob of sampling, as :temperature 0.7 or :top_p=0.9
:show         the knobs and their values; * where one was changed
:reset        puts all knobs back
:help         this
:quit         ends, as Ctrl-D does"""


class Session:
    """See above.

    Args:
      exact: whether ``sample.max_new_tokens`` was asked for, so that it has to fit.
      writer: see ``prompts.prompt_of``.

    Raises:
      UserError: the run's data has no tokenizer, or its settings cannot be followed.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer | None,
        sample: SampleConfig,
        exact: bool,
        writer: Writer | None = None,
    ):
        if tokenizer is None:
            raise UserError("this run's data has no tokenizer", where="--interactive", fix="--prompt_ids")
        given = vocabulary(decoder, sample, tokenizer)
        knobs.of_config(sample, given)
        self._decoder = decoder.ready(knobs.ready(given, sample.order))
        self._tokenizer, self._first, self._first_exact = tokenizer, sample, exact
        self._sample, self._exact, self._writer = sample, exact, writer
        self._commands: dict[str, Callable[[], None]] = {
            "show": self._show,
            "reset": self._reset,
            "help": lambda: print(HELP, flush=True),
        }

    def run(self) -> None:
        """Reads lines until they end; what is wrong with one is said, and the next one read."""
        if isinstance(sys.stdin, io.TextIOWrapper):  # what is no UTF-8 becomes U+FFFD in a prompt
            sys.stdin.reconfigure(errors="surrogateescape")
        asks = bars.terminal(sys.stdin) and bars.terminal(sys.stdout)
        if asks:
            with contextlib.suppress(ImportError):  # some Pythons lack it; lines are then typed without a history
                importlib.import_module("readline")
            print("a line is continued; :help shows what else there is", flush=True)
        while True:
            try:
                line = input("> " if asks else "")
            except EOFError:
                print(end="\n" if asks else "", flush=True)
                return
            except KeyboardInterrupt:
                print(flush=True)
                continue
            if line.strip() in (":quit", ":q"):
                return
            try:
                self._do(line)
            except Failure as failure:
                print(f"error: {failure}", file=sys.stderr, flush=True)
            except KeyboardInterrupt:
                print("\n(stopped)", flush=True)

    def _do(self, line: str) -> None:
        if not line.strip():
            return
        if not line.startswith(":"):
            self._continue(line)
            return
        name, separator, value = line[1:].strip().replace("=", " ", 1).partition(" ")
        if name in self._commands and not separator:
            self._commands[name]()
        else:
            self._set(name, value.strip())

    def _continue(self, line: str) -> None:
        model = self._decoder.config
        prompt = prompt_of(line, "the prompt", self._tokenizer, self._writer)
        asked = requests.requests([prompt], model, self._sample, self._exact, self._tokenizer)
        note_shortened([request.length for request in asked], model, self._sample.max_new_tokens)
        for request in asked:
            print(*[f"--- sample {request.copy + 1}\n"] * (len(asked) > 1), prompt.text, sep="", end="", flush=True)
            for piece, _ in pieces(self._decoder, request, self._tokenizer):
                print(piece, end="", flush=True)
            print(flush=True)

    def _set(self, name: str, text: str) -> None:
        if name not in requests.OF_A_LINE:
            known = (*self._commands, *requests.OF_A_LINE)
            raise UserError(f"there is no knob {name!r}", allowed=", ".join(known), fix=did_you_mean(name, known))
        value = _value(text, getattr(self._first, name))
        changed = section(SampleConfig, dataclasses.asdict(self._sample) | {name: value}, "sample")
        requests.check(changed, self._decoder.config, "")
        knobs.of_config(changed, vocabulary(self._decoder, changed, self._tokenizer))
        self._sample, self._exact = changed, self._exact or name == "max_new_tokens"

    def _show(self) -> None:
        for name in requests.OF_A_LINE:
            value = getattr(self._sample, name)
            print(f"{'*' if value != getattr(self._first, name) else ' '} {name} = {value!r}")
        sys.stdout.flush()

    def _reset(self) -> None:
        self._sample, self._exact = self._first, self._first_exact


def _value(text: str, default: Any) -> Any:
    """What is meant by the text of a value: a literal, or a text as it stands; a single one where the knob takes several."""
    spelt = {"true": True, "false": False}
    try:
        value = spelt[text.lower()] if text.lower() in spelt else ast.literal_eval(text)
    except NO_LITERAL:
        value = text
    return value if not isinstance(default, tuple) or isinstance(value, tuple | list) else (value,)
