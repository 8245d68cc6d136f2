"""Cached decoding from the host's side: prompts in, tokens out, by the programs of ``gpt_jax.sample.engine``."""

import copy
import dataclasses
from collections import deque
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from jax.sharding import Mesh

from gpt_jax.backend import target_platform
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.mesh import decoding
from gpt_jax.mesh.mesh import batch_shards
from gpt_jax.model import attend, layout
from gpt_jax.sample import platform as platforms
from gpt_jax.sample.calls import USUAL, Calls, acceptance_of, check_stuck, part_of, row_of
from gpt_jax.sample.engine import context, notes
from gpt_jax.sample.engine.turns import Method, OneByOne
from gpt_jax.sample.engine.weights import prepare
from gpt_jax.sample.platform import Platform
from gpt_jax.sample.processors import NONE, Processor
from gpt_jax.sample.rows import Asked, Ended, Generated, Row, Sampling

LOOKS = 16  # turns between two looks at what rows have written, where the host may end one
ONE_BY_ONE = OneByOne()


class Decoder:
    """A model made ready to write. Its weights are laid out anew once, here: keep it for several calls.

    Args:
      params: in either layout of ``gpt_jax.model.layout``, as ``config.scan`` says.
      platform: None for that of JAX's default backend; all of them run everywhere.
      mesh: of ``gpt_jax.mesh``, over which weights and rows are split; None: that of ``params``, if they are on one. With
        another method than a token at a time, weights stay where ``params`` are, and rows are not split.
      method: how the tokens are written.
      int8: what is kept as int8, of "cache" (keys and values) and "weights" (matrices of linear layers).

    Attributes:
      prepared: the model's own weights, for what reads texts.
      weights: what the programs of the method take.
    """

    def __init__(
        self,
        config: ModelConfig,
        params: dict,
        platform: Platform | None = None,
        mesh: Mesh | None = None,
        method: Method = ONE_BY_ONE,
        int8: Collection[str] = (),
    ):
        # A kernel that cannot read a cache trains what another one decodes: they compute the same.
        able = config.attend if "cache" in attend.backend(config.attend).can else "auto"
        self.config = dataclasses.replace(config, scan=False, remat="none", dropout=0.0, attend=able)
        found = decoding.mesh_of(params) if mesh is None else mesh
        self.mesh = found if method == ONE_BY_ONE else None  # rows that draft are not split
        platform = platforms.of(target_platform()) if platform is None else platform
        self.platform = platform if self.mesh is None else platform.for_pieces(batch_shards(self.mesh))
        self.method, self.int8 = method, frozenset(int8)
        self.always: tuple[Processor, ...] = USUAL
        self._scan, self.beyond_context = config.scan, context.REFUSE
        self._lay_out(params)

    def with_params(self, params: dict) -> "Decoder":
        """The same with other parameters, in the same layout. Nothing is compiled again."""
        other = copy.copy(self)
        other._lay_out(params)
        return other

    def ready(self, processors: Sequence[Processor]) -> "Decoder":
        """The same, whose programs hold these processors whether or not a row has them, in this order. So rows may take
        one on without another compilation; where the platform specialises, that has no effect."""
        other = copy.copy(self)
        other.always = tuple(processors)
        return other

    def beyond(self, choice: str) -> "Decoder":
        """The same, for texts that may be longer than the context: "roll" or "reread" (docs/sampling.md), or "refuse".

        Raises:
          UserError: the model cannot do it.
        """
        other = copy.copy(self)
        other.beyond_context = context.check_choice(self.config, choice)
        return other

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        sampling: Sampling | Sequence[Sampling],
        seeds: Sequence[int],
        noted: Sequence[str] = (),
        top: int = 0,
        rows: int | None = None,
    ) -> Generated:
        """Continues every prompt by up to ``max_new_tokens`` tokens.

        Args:
          prompts: B lists of one or more ids below ``config.vocab``.
          max_new_tokens, sampling: for all rows, or one a row.
          seeds: one a row. The token at position p is drawn with ``fold_in(key(seed), p)``, so that a row's text
            depends on its own prompt and seed alone, and a continued text goes on as the longer one would have.
          noted: what else is noted of each token, names of ``gpt_jax.sample.engine.notes``.
          top: how many of the most likely tokens the notes of them hold.
          rows: prompts that are continued side by side; the next one takes the place of one that has ended. None: all.

        Raises:
          UserError: a prompt is empty, holds an id outside the vocabulary, or does not fit the context; or processors
            leave no token.
          NonFiniteError: the model's own scores are no numbers.
        """
        asked = self.asked(prompts, max_new_tokens, sampling, seeds)
        ended = dict(self._each(asked, tuple(noted), top, rows))
        found = [ended[number] for number in range(len(asked))]
        values = {name: [row.notes[name] for row in found] for name in (notes.LOGPROBS, *noted)}
        logprobs = values.pop(notes.LOGPROBS)
        return Generated([row.tokens for row in found], logprobs, values, acceptance_of(found))

    def each(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        sampling: Sampling | Sequence[Sampling],
        seeds: Sequence[int],
        noted: Sequence[str] = (),
        top: int = 0,
        rows: int | None = None,
        ended: Ended | None = None,
    ) -> Iterator[tuple[int, Row]]:
        """``generate``, row by row: the number of a prompt and what was written, in the order in which rows end.

        Args:
          ended: whether a row has ended for a reason that the host sees. It is asked every ``LOOKS`` tokens or so, and a
            row that has ended makes room for the next one; by then it may hold further tokens.
        """
        asked = self.asked(prompts, max_new_tokens, sampling, seeds)
        yield from self._each(asked, tuple(noted), top, rows, ended)

    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        sampling: Sampling | Sequence[Sampling],
        seeds: Sequence[int],
        every: int = 8,
    ) -> Iterator[Generated]:
        """``generate`` in parts of ``every`` tokens a row; the parts joined are what ``generate`` returns."""
        asked = self.asked(prompts, max_new_tokens, sampling, seeds)
        most = max(asked.limits, default=0)
        if not most:
            return
        calls = Calls(self, asked, (), 0, len(asked))
        done = 0
        for seen in calls.run(self.platform.limits(most, every)):
            check_stuck(seen, asked, range(len(asked)))
            stopped = not seen["open_B"].any()
            there = int(seen["count_B"].max() if stopped else seen["count_B"][seen["open_B"]].min())
            while done < there and (stopped or there - done >= every):
                until = min(done + every, there)
                yield part_of(seen, len(asked), done, until)
                done = until

    def asked(self, prompts, max_new_tokens, sampling, seeds) -> Asked:
        """The arguments of ``generate``, checked and a list each."""
        count = len(prompts)
        limits = [int(limit) for limit in np.broadcast_to(np.asarray(max_new_tokens, np.int64), (count,))]
        samplings = [sampling] * count if isinstance(sampling, Sampling) else list(sampling)
        for row, (prompt, limit) in enumerate(zip(prompts, limits, strict=True), start=1):
            context.check(self.config, prompt, limit, f"prompt {row} of {count}", self.beyond_context)
        self._check_method(prompts, limits, samplings)
        if not len(samplings) == len(seeds) == count:
            raise ValueError(f"{count} prompts, {len(samplings)} samplings and {len(seeds)} seeds")
        for row, (one, limit) in enumerate(zip(samplings, limits, strict=True), start=1):
            if one.guidance and one.guidance.negative:
                where = f"negative prompt {row} of {count}"
                context.check(self.config, one.guidance.negative, limit, where, self.beyond_context)
        if self.beyond_context == context.REREAD and any(s.guidance for s in samplings):
            raise UserError(
                "texts with a negative prompt are not read anew when the context is full",
                where="config.sample.beyond_context, config.sample.guidance_scale",
                allowed="refuse, or roll where the positions go on",
            )
        return Asked(prompts, limits, samplings, seeds)

    def _check_method(self, prompts, limits, samplings) -> None:
        """Raises UserError where what is asked for does not go with the way in which tokens are written."""
        self.method.check(prompts, limits)
        beside = {
            "sample.guidance_scale": any(sampling.guidance for sampling in samplings),
            "sample.beyond_context": self.beyond_context != context.REFUSE,
        }
        wrong = [name for name, there in beside.items() if there and self.method != ONE_BY_ONE]
        if wrong:
            raise UserError(
                "tokens that are drafted do not go with " + " or ".join(wrong),
                where=", ".join(f"config.{name}" for name in wrong),
                fix="leave out draft, draft_layers and prompt_lookup_num_tokens",
            )

    def _each(
        self, asked: Asked, noted: tuple[str, ...], top: int, rows: int | None, ended: Ended | None = None
    ) -> Iterator[tuple[int, Row]]:
        if not max(asked.limits, default=0):
            yield from (
                (number, Row([], {name: [] for name in (notes.LOGPROBS, *noted)})) for number in range(len(asked))
            )
            return
        rows = min(rows or len(asked), len(asked))
        calls = Calls(self, asked, noted, top, rows)
        waiting = deque(range(rows, len(asked)))
        at = list(range(rows))  # which prompt each row continues
        while True:
            least = rows - 1 if waiting else 0
            seen = calls.until(least, LOOKS if ended else None)
            check_stuck(seen, asked, at)
            if ended:
                going = [row for row in range(rows) if at[row] >= 0 and seen["open_B"][row]]
                seen = calls.close(seen, [row for row in going if ended(at[row], row_of(seen, row).tokens)])
            free = [row for row in range(rows) if at[row] >= 0 and not seen["open_B"][row]]
            for row in free:
                yield at[row], row_of(seen, row)
                at[row] = NONE
            taken = [(row, waiting.popleft()) for row in free if waiting]
            for row, number in taken:
                at[row] = number
            if taken:
                calls.replace(*zip(*taken, strict=True))
            elif max(at) < 0:
                return

    def unrolled(self, params: dict) -> dict:
        """Parameters in the layout of ``config``, which is unrolled."""
        return layout.unstack(params, len(self.config.attentions)) if self._scan else params

    def _lay_out(self, params: dict) -> None:
        self.prepared = prepare(self.config, self.unrolled(params), self.mesh, "weights" in self.int8)
        self.weights = self.method.weights(self.prepared)
