"""No adapter: the model's own parameters are trained."""

from typing import Any

import jax

from gpt_jax.config import ModelConfig
from gpt_jax.registry import register


@register("train.adapters", "none")
class NoAdapter:
    """All parameters are trained, but those that ``optim.groups`` freezes."""

    alone = True

    def init(self, base: dict[str, Any], model: ModelConfig, key: jax.Array) -> dict[str, Any]:
        return base

    def apply(self, base: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
        return trained
