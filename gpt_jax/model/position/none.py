"""No positions."""

from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model.position import Position
from gpt_jax.registry import register


@register("model.position", "none")
class Nothing(Position):
    """The causal mask alone breaks the symmetry (Kazemnejad et al. 2023, "NoPE")."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        pass
