"""Adam with decoupled weight decay."""

import optax

from gpt_jax.limits import Decay, Share
from gpt_jax.registry import register


@register("train.optimizers", "adamw")
def adamw(*, scanned: bool, b1: Decay = 0.9, b2: Decay = 0.95, eps: Share = 1e-8) -> optax.GradientTransformation:
    """Kingma & Ba 2015; the decay is Loshchilov & Hutter's (2019), scaled by the learning rate."""
    return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)
