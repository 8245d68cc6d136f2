"""Stochastic gradient descent, with momentum if asked for."""

import optax

from gpt_jax.limits import Decay
from gpt_jax.registry import register


@register("train.optimizers", "sgd")
def sgd(*, scanned: bool, momentum: Decay = 0.0, nesterov: bool = False) -> optax.GradientTransformation:
    """The gradient itself, or its decayed sum (Sutskever et al. 2013)."""
    return optax.trace(decay=momentum, nesterov=nesterov) if momentum else optax.identity()
