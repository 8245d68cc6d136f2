"""One layer of the stack: attention and an MLP around a residual stream."""

import jax
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.model.where import Where, dropout
from gpt_jax.registry import register

ATTENTION_DROPOUT_SITE, MLP_DROPOUT_SITE = 1, 2


@register("model.block", "pre")
class PreNormBlock(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): GPT-2's placement (Radford et al. 2019, section 2.3).

    Args:
      attention: this layer's mechanism, a name or call of kind "model.attention".
    """

    def __init__(self, config: ModelConfig, attention: str, rngs: nnx.Rngs):
        self.norm1 = registry.build("model.norm", config.norm, config.width, config)
        self.attention = registry.build("model.attention", attention, config, rngs)
        self.norm2 = registry.build("model.norm", config.norm, config.width, config)
        self.mlp = registry.build("model.mlp", config.mlp, config, rngs)
        self.dropout = config.dropout

    def __call__(self, x_BTD: jax.Array, where: Where, cache: dict | None = None) -> tuple[jax.Array, dict | None]:
        y_BTD, cache = self.attention(self.norm1(x_BTD), where, cache)
        x_BTD = x_BTD + dropout(y_BTD, self.dropout, where.keys_B, ATTENTION_DROPOUT_SITE)
        y_BTD = self.mlp(self.norm2(x_BTD))
        return x_BTD + dropout(y_BTD, self.dropout, where.keys_B, MLP_DROPOUT_SITE), cache
