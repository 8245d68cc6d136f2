"""Lion: the sign of an interpolated momentum."""

import optax

from gpt_jax.limits import Decay
from gpt_jax.registry import register


@register("train.optimizers", "lion")
def lion(*, scanned: bool, b1: Decay = 0.9, b2: Decay = 0.99) -> optax.GradientTransformation:
    """Chen et al. 2023, algorithm 2. Wants a learning rate 3 to 10 times smaller than AdamW's."""
    return optax.scale_by_lion(b1=b1, b2=b2)
