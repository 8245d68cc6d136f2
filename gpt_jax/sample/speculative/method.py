"""Speculative decoding as a ``Decoder`` is given it, and what it cannot do."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.model import gpt
from gpt_jax.model.cache import Ring
from gpt_jax.sample.engine.program import Program
from gpt_jax.sample.speculative.passes import Speculation, compiled
from gpt_jax.sample.speculative.proposals import Proposer

LEAVE_OUT = "leave out draft, draft_layers and prompt_lookup_num_tokens"


@dataclass(frozen=True)
class Speculative:
    """Several tokens a turn, that were proposed and accepted.

    Args:
      proposer: where they come from.
      draft: its weights, of ``gpt_jax.sample.engine.weights.prepare``; None where it has none.
    """

    proposer: Proposer
    draft: Any = None

    def weights(self, prepared: Any) -> Any:
        return {"model": prepared, "draft": self.draft}

    def check(self, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> None:
        """Raises UserError where a text would be longer than the context of the model that drafts."""
        longest = max((len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)), default=0)
        context = self.proposer.context
        if context is not None and longest > context:
            raise UserError(
                f"texts of up to {longest} tokens, and the draft's context is {context}",
                where="config.sample.draft, config.sample.max_new_tokens",
                allowed=f"{context} tokens with the prompt",
                fix="fewer new tokens, or prompt_lookup_num_tokens or draft_layers instead of draft",
            )

    def programs(self, program: Program, several: bool) -> tuple[Callable, Callable, Callable]:
        spec = Speculation(program, self.proposer)
        prefill, advance, replace = compiled(program.platform, several)
        return tuple(functools.partial(step, spec) for step in (prefill, advance, replace))  # type: ignore[return-value]


def require(config: ModelConfig, where: str) -> None:
    """Raises UserError for a model that cannot take back tokens that it has read."""
    for layer, call in enumerate(config.attentions):
        kept = jax.tree.leaves(_cache(config, layer), is_leaf=lambda node: isinstance(node, Ring))
        if not all(isinstance(node, Ring) for node in kept):
            raise UserError(
                f"{call} attention keeps a state that all tokens have gone into: drafted ones could not be taken back",
                where=where,
                allowed="layers that keep keys and values, as those of full, sliding and latent attention do",
                fix=LEAVE_OUT,
            )


def _cache(config: ModelConfig, layer: int) -> Any:
    """What one layer of an unrolled model keeps, abstractly."""
    return jax.eval_shape(lambda: gpt.GPT(config, nnx.Rngs(params=0)).init_cache(1, 1)["blocks"][str(layer)])
