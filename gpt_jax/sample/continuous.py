"""A batch whose rows take requests at any time, from the host's side: prompts in, tokens out, by few programs."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.sample.calls import check_finite, program_of, row_of
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.engine import context, continuous
from gpt_jax.sample.engine.program import Sizes
from gpt_jax.sample.likelihood import Likelihood, read
from gpt_jax.sample.processors import NONE
from gpt_jax.sample.rows import Asked, Row, Sampling

SMALLEST = 32  # tokens of a prompt; longer ones are filled up to twice as many, and so on up to the context
TURNS = 8  # that an accelerator writes at once, so that a request waits for no more
TOP = ("top_ids", "top_logprobs")


class ContinuousBatch:
    """Rows of one model, each of which is free or continues a prompt.

    A request's tokens are the same whenever it comes and whatever stands beside it: shapes depend on its own prompt alone,
    and every program is compiled by ``warm``.

    Args:
      decoder: on one device, that writes a token at a time; ``Decoder.ready`` says which processors a request may have.
      rows: requests side by side.
      stops: ids that can end a request.
      top: how many of the most likely tokens are noted where a request asks for it.
    """

    def __init__(self, decoder: Decoder, rows: int, stops: int, top: int):
        platform = dataclasses.replace(decoder.platform, specialised=False, turns=min(decoder.platform.turns, TURNS))
        self.decoder, self.rows, self.top = decoder, rows, min(top, decoder.config.vocab)
        self._stops, self._context = max(1, stops), decoder.config.context
        program, _ = program_of(decoder.config, platform, [Sampling()], TOP, self.top, decoder.always)
        self._program = dataclasses.replace(program, int8_cache="cache" in decoder.int8, asked=True)
        self._make, self._join, self._advance = continuous.compiled(platform)
        widths = [SMALLEST << i for i in range(self._context.bit_length()) if SMALLEST << i < self._context]
        self._widths = [*widths, self._context]
        self._state: dict = {}
        self._seen: Any = None
        self.clear()

    def clear(self) -> None:
        """Frees all rows, whatever has become of them."""
        tokens_1P, given, sizes = self._given(Asked([[0]], [0], [Sampling()], [0]), False)
        self._state = self._make(self._program, self.decoder.weights, tokens_1P, given, sizes, self.rows)
        self._free = set(range(self.rows))

    def warm(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Compiles all that requests can need; less, once ``stopped``, which is asked before each length of prompts."""
        for width in self._widths:
            if stopped():
                return
            prompt = [0] * min(width, self._context - 1)
            self.leave(self.join(prompt, 1, Sampling(), 0, True))
            self.likelihood(prompt)
        self.advance(1, 0)

    @property
    def free(self) -> int:
        """How many rows are free."""
        return len(self._free)

    def join(self, prompt: Sequence[int], limit: int, sampling: Sampling, seed: int, top: bool) -> int:
        """Begins a request in a free row and returns the row; for the arguments, see ``Decoder.generate``.

        Args:
          limit: 1 or more new tokens at most.
          top: whether the most likely tokens are noted.

        Raises:
          UserError: the model cannot continue the prompt.
        """
        context.check(self.decoder.config, prompt, limit, "prompt")
        tokens_1P, given, sizes = self._given(Asked([prompt], [limit], [sampling], [seed]), top)
        row = min(self._free)
        at = np.int32(row)
        self._state, self._seen = self._join(
            self._program, self.decoder.weights, self._state, tokens_1P, given, at, sizes
        )
        self._free.remove(row)
        return row

    def advance(self, turns: int, least: int) -> None:
        """Writes up to so many tokens in each row that goes on, until no more than ``least`` rows do."""
        self._state, self._seen = self._advance(
            self._program, self.decoder.weights, self._state, np.int32(turns), np.int32(least)
        )

    def look(self, top: bool) -> dict:
        """What rows have written, for ``written``.

        Args:
          top: whether some row's most likely tokens are looked at.
        """
        kept = {name: value for name, value in self._seen["notes"].items() if top or name not in TOP}
        return jax.device_get({**self._seen, "notes": kept})

    @staticmethod
    def written(seen: dict, row: int) -> tuple[Row, bool]:
        """What a row has written so far, and whether it goes on.

        Raises:
          UserError: its processors left no token.
          NonFiniteError: the model's own scores did not.
        """
        if seen["stuck_B"][row]:
            check_finite(seen, row, "sampling")
            raise UserError("the sampling parameters left no token to choose from", where="sampling")
        return row_of(seen, row), bool(seen["open_B"][row])

    def leave(self, row: int) -> None:
        """Frees a row, whether or not it has ended."""
        kept_B = np.ones(self.rows, bool)
        kept_B[row] = False
        self._state = {**self._state, "open_B": self._state["open_B"] & kept_B}
        self._free.add(row)

    def likelihood(self, text: Sequence[int]) -> Likelihood:
        """Of a text that there is, of up to the context's tokens, with the most likely tokens in each place."""
        width = next(width for width in self._widths if width >= len(text) - 1)
        return read(self.decoder, [text], width, self.top)[0]

    def _given(self, asked: Asked, top: bool) -> tuple[np.ndarray, dict, Sizes]:
        """What the programs take of one request."""
        width = next(width for width in self._widths if width >= len(asked.prompts[0]))
        sizes = Sizes(width, self._context, self._context, self._widths[-1])
        program, knobs = program_of(
            self.decoder.config, self._program.platform, asked.samplings, TOP, self.top, self.decoder.always
        )
        if program.links != self._program.links or asked.guided:
            raise UserError("a request asks for processors that the batch was not made ready for", where="sampling")
        tokens_1P, given = asked.rows([0], knobs, 1, width)
        stop_ids_1I = np.full((1, self._stops), NONE, np.int32)
        own = given["stop_ids_BI"][0]
        stop_ids_1I[0, : len(own)] = own
        return tokens_1P, {**given, "stop_ids_BI": stop_ids_1I, "asked_B": np.array([top])}, sizes
