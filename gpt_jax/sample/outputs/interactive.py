"""A loop at the terminal: every line that is typed is continued, and lines that begin with a colon turn the knobs."""

import re
import sys
from collections.abc import Callable

from gpt_jax.config import SampleConfig
from gpt_jax.data.rendering import Writer
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.outputs import requests
from gpt_jax.sample.outputs.typed import each_line, ready, turned
from gpt_jax.sample.outputs.writing import pieces, written
from gpt_jax.sample.processors import Tokenizer
from gpt_jax.sample.prompts import note_shortened, prompt_of
from gpt_jax.sample.searches.chosen import chosen

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
        self._decoder = ready(decoder, sample, tokenizer)
        self._tokenizer, self._first, self._first_exact = tokenizer, sample, exact
        self._sample, self._exact, self._writer = sample, exact, writer
        self._commands: dict[str, Callable[[], None]] = {
            "show": self._show,
            "reset": self._reset,
            "help": lambda: print(HELP, flush=True),
        }

    def run(self) -> None:
        """Reads lines until they end; what is wrong with one is said, and the next one read."""
        each_line(self._do, "a line is continued; :help shows what else there is")

    def _do(self, line: str) -> bool:
        if line.strip() in (":quit", ":q"):
            return False
        if not line.startswith(":"):
            if line.strip():
                self._continue(line)
            return True
        name, *value = re.split(r"\s*=\s*|\s+", line[1:].strip(), maxsplit=1)
        if name in self._commands and not value:
            self._commands[name]()
        else:
            self._set(name, "".join(value))
        return True

    def _continue(self, line: str) -> None:
        model = self._decoder.config
        prompt = prompt_of(line, "the prompt", self._tokenizer, self._writer)
        asked = requests.requests([prompt], model, self._sample, self._exact, self._tokenizer)
        note_shortened([request.length for request in asked], model, self._sample.max_new_tokens)
        several = self._sample.num_return_sequences > 1
        if chosen(self._sample) is not None:  # whose texts come whole
            for request, row in written(self._decoder, asked, self._tokenizer):
                print(*_head(request, several), row.text, sep="", flush=True)
            return
        for request in asked:
            print(*_head(request, several), sep="", end="", flush=True)
            for piece, _ in pieces(self._decoder, request, self._tokenizer):
                print(piece, end="", flush=True)
            print(flush=True)

    def _set(self, name: str, text: str) -> None:
        if name not in requests.OF_A_LINE:
            known = (*self._commands, *requests.OF_A_LINE)
            raise UserError(f"there is no knob {name!r}", allowed=", ".join(known), fix=did_you_mean(name, known))
        self._sample = turned(self._sample, name, text, self._decoder, self._tokenizer)
        self._exact = self._exact or name == "max_new_tokens"

    def _show(self) -> None:
        for name in requests.OF_A_LINE:
            value = getattr(self._sample, name)
            print(f"{'*' if value != getattr(self._first, name) else ' '} {name} = {value!r}")
        sys.stdout.flush()

    def _reset(self) -> None:
        self._sample, self._exact = self._first, self._first_exact


def _head(request: requests.Request, several: bool) -> tuple[str | None, ...]:
    """What stands before the new text: the prompt, and which sample it is, where there are several."""
    return (f"--- sample {request.copy + 1}\n", request.prompt.text) if several else (request.prompt.text,)
