"""The calls of the compiled programs for one batch, and what the host reads of them."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from gpt_jax.config import ModelConfig
from gpt_jax.errors import NonFiniteError, UserError
from gpt_jax.limits import LARGEST
from gpt_jax.sample.engine import chain, context, notes
from gpt_jax.sample.engine.program import Program
from gpt_jax.sample.platform import Platform
from gpt_jax.sample.processors import Processor, temperature, top_k, top_p
from gpt_jax.sample.rows import Asked, Generated, Row, Sampling, distinct
from gpt_jax.sample.speculative.acceptance import Acceptance

# What a platform that does not specialise compiles in any case, so that the usual knobs never compile again.
USUAL = (
    Processor(temperature.change, {"t_B": np.float32(1)}, warps=True),
    Processor(top_k.change, {"k_B": np.int32(1)}, warps=True),
    Processor(top_p.change, {"p_B": np.float32(1)}, warps=True),
)


class Calls:
    """The programs' calls for one batch, and its state."""

    def __init__(self, decoder: Any, asked: Asked, noted: tuple[str, ...], top: int, rows: int):
        platform = decoder.platform
        self.asked, self.sizes, self.platform = asked, asked.sizes(platform), platform
        self.weights, self.rows = decoder.weights, platform.rows(rows)
        program, self.knobs = program_of(decoder.config, platform, asked.samplings, noted, top, decoder.always)
        span = context.span(decoder.config, decoder.beyond_context, asked.longest)
        program = dataclasses.replace(program, mesh=decoder.mesh, span=span, int8_cache="cache" in decoder.int8)
        several = self.rows > 1 or program.guided
        prefill, self._advance, self._replace = decoder.method.programs(program, several)
        given = asked.rows(range(rows), self.knobs, self.rows, self.sizes.width)
        self.state, self.seen = prefill(self.weights, *given, self.sizes)

    def run(self, limits: Iterable[int]) -> Iterator[dict]:
        """What has been written by each call. The next one is under way while the caller looks at what there is."""
        for limit in limits:
            self.state, ahead = self._advance(self.weights, self.state, limit, 0)
            seen, self.seen = jax.device_get(self.seen), ahead
            yield seen
            if not seen["open_B"].any():
                return
        yield jax.device_get(self.seen)

    def until(self, least: int, turns: int | None = None) -> dict:
        """What has been written once no more than ``least`` rows go on, or after ``turns`` of the loop."""
        seen = jax.device_get(self.seen)
        while seen["open_B"].sum() > least:
            # After so many turns, no more than ``least`` of the rows that go on have fewer tokens than this.
            limit = LARGEST if turns is None else int(np.sort(seen["count_B"][seen["open_B"]])[least]) + turns
            # On platforms of fixed turns, the next call is under way while the host looks at this one.
            self.state, ahead = self._advance(self.weights, self.state, limit, least)
            seen, self.seen = jax.device_get(self.seen) if self.platform.turns else jax.device_get(ahead), ahead
            if turns is not None:
                break
        return seen

    def close(self, seen: dict, rows: Sequence[int]) -> dict:
        """Ends rows, and returns what was seen with them ended."""
        if not rows:
            return seen
        kept_B = np.ones(self.rows, bool)
        kept_B[list(rows)] = False
        self.state = {**self.state, "open_B": self.state["open_B"] & kept_B}
        self.seen = {**self.seen, "open_B": self.seen["open_B"] & kept_B}
        return {**seen, "open_B": seen["open_B"] & kept_B}

    def replace(self, rows: Sequence[int], numbers: Sequence[int]) -> None:
        """The prompts of these numbers take the places of rows that have ended."""
        size = 1 << (len(rows) - 1).bit_length()
        tokens_JP, given = self.asked.rows(numbers, self.knobs, size, self.sizes.width)
        at_J = np.array([*rows, *[self.rows] * (size - len(rows))], np.int32)
        self.state, self.seen = self._replace(self.weights, self.state, tokens_JP, given, at_J, self.sizes)


def program_of(
    config: ModelConfig,
    platform: Platform,
    samplings: Sequence[Sampling],
    noted: tuple[str, ...] = (),
    top: int = 0,
    always: Sequence[Processor] = USUAL,
) -> tuple[Program, list[dict]]:
    """The program that draws as the rows ask for, and the knobs of their ``rows.distinct`` samplings.

    Where the platform does not specialise it is the same for all that ask for no more than ``always``.
    """
    samplings, _ = distinct(samplings)
    links, knobs = chain.join([s.applied for s in samplings], () if platform.specialised else always)
    draws = any(not s.greedy for s in samplings) if platform.specialised else None
    guided = any(s.guidance for s in samplings)
    return Program(config, platform, links, draws, (notes.LOGPROBS, *noted), top, guided), knobs


def check_stuck(seen: dict, asked: Asked, at: Sequence[int]) -> None:
    """Raises UserError where the processors of a row have left it no token; or as ``check_finite``."""
    for row, number in enumerate(at):
        if number >= 0 and seen["stuck_B"][row]:
            check_finite(seen, row, f"prompt {number + 1} of {len(asked)}")
            names = [processor.change.__module__.rpartition(".")[2] for processor in asked.samplings[number].applied]
            raise UserError(
                f"no token is left for prompt {number + 1} of {len(asked)} after {seen['count_B'][row]} new ones: "
                f"{', '.join(names)} removed all of them",
                where="config.sample",
                fix="loosen one of them; what has to be completed may need a larger sample.max_new_tokens",
            )


def check_finite(seen: dict, row: int, where: str) -> None:
    """Raises NonFiniteError for a row without a token, where the model's own scores are the reason."""
    count = seen["count_B"][row]
    if np.isnan(seen["notes"][notes.LOGPROBS][row, count]):
        raise not_finite(f"{where}, after {count} new ones")


def not_finite(where: str) -> NonFiniteError:
    """That there is nothing to choose from, as the model's own scores are no numbers."""
    return NonFiniteError(
        "the model's scores of the next token are not finite",
        where=where,
        fix="an earlier checkpoint, --step=N, or model.dtype=float32",
    )


def row_of(seen: dict, row: int) -> Row:
    count, prompt = seen["count_B"][row], seen["prompt_B"][row]
    values = {name: values_BR[row, :count].tolist() for name, values_BR in seen["notes"].items()}
    tokens = seen["tokens_BS"][row, prompt : prompt + count].tolist()
    if "figures" not in seen:
        return Row(tokens, values)
    return Row(tokens, values, Acceptance(**{name: int(value_B[row]) for name, value_B in seen["figures"].items()}))


def acceptance_of(rows: Sequence[Row]) -> list[Acceptance] | None:
    found = [row.acceptance for row in rows if row.acceptance is not None]
    return found or None


def part_of(seen: dict, prompts: int, start: int, end: int) -> Generated:
    """Tokens ``start`` to ``end`` of the first ``prompts`` rows, as far as each has got."""
    rows = [row_of(seen, row) for row in range(prompts)]
    tokens = [row.tokens[start:end] for row in rows]
    logprobs = [row.notes[notes.LOGPROBS][start:end] for row in rows]
    return Generated(tokens, logprobs, acceptance=acceptance_of(rows))
