"""AdamW with its two moments in eight bits a number."""

import optax

from gpt_jax.limits import Decay, Share
from gpt_jax.registry import register
from gpt_jax.train.optimizers.eight_bit import quantized


@register("train.optimizers", "adamw8bit")
def adamw8bit(*, scanned: bool, b1: Decay = 0.9, b2: Decay = 0.95, eps: Share = 1e-8) -> optax.GradientTransformation:
    """``adamw`` with about a quarter of its state (Dettmers et al. 2022). Vectors and small matrices have float32 moments,
    as with ``adamw``.

    Its authors keep those of embeddings in float32 too; here a row of ``optim.groups`` does:
    ("embed/", {"optimizer": "adamw"}).
    """
    return quantized(optax.scale_by_adam(b1=b1, b2=b2, eps=eps), scanned, {"mu": True, "nu": False})
