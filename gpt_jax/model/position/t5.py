"""T5's relative positions: a trained bias per head and bucket of distances."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.limits import Heads, Size
from gpt_jax.model import init
from gpt_jax.model.position import Position, back
from gpt_jax.model.where import Tokens
from gpt_jax.registry import register


@register("model.position", "t5")
class T5(Position):
    """Scores get a trained number for their head and the bucket of their distance, the same in all layers (Raffel et al.
    2020, section 2.1).

    Args:
      buckets: half of them for the distances below ``buckets / 2``, one each, the others spaced by logarithm.
      furthest: distances from here on share the last bucket.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs, *, buckets: Heads = 32, furthest: Size = 128):
        if buckets < 2 or furthest <= buckets // 2:
            raise UserError(
                f"t5(buckets={buckets}, furthest={furthest})",
                where="config.model.position",
                allowed="2 or more buckets, and furthest above half of them",
            )
        self.w = nnx.Param(init.normal(config, "position", rngs, (buckets, config.heads)))
        self.furthest = furthest

    def bias(self, queries: Tokens, keys: Tokens) -> jax.Array:
        w_RN = self.w[...]
        # A product with the one-hot bucket: its derivative is a product too, where an index's is a scatter.
        bucket_BTSR = jax.nn.one_hot(bucket(back(queries, keys), len(w_RN), self.furthest), len(w_RN))
        return jnp.einsum("BTSR,RN->BNTS", bucket_BTSR, w_RN.astype(bucket_BTSR.dtype))


def bucket(back_BTS: jax.Array, buckets: int, furthest: int) -> jax.Array:
    """The bucket of each distance, integers below ``buckets``."""
    near = buckets // 2
    # Edges worked out on the host: a float32 logarithm would put distances at an edge into the bucket below.
    distance = np.arange(near, furthest + 1)
    far = near + (np.log(distance / near) / np.log(furthest / near) * (buckets - near) + 1e-9).astype(int)
    table = jnp.asarray(np.concatenate([np.arange(near), np.minimum(far, buckets - 1)]))
    return table[jnp.minimum(back_BTS, furthest)]
