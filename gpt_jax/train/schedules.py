"""Learning-rate schedules: the factor of ``optim.lr`` after ``step`` updates. All three arguments may be traced.

Every schedule starts with a linear warmup: step k < warmup has the factor (k + 1) / (warmup + 1), nanoGPT's form.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gpt_jax.limits import Factor, Share
from gpt_jax.registry import register

Schedule = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (step, warmup, steps) -> factor

HORIZON_FREE = frozenset({"constant", "rsqrt"})  # these do not look ahead to the last step: a run may be lengthened


def _warmed(step, warmup, after):
    return jnp.where(step < warmup, (step + 1) / (warmup + 1), after)


def _progress(step, warmup, steps):
    """0 at the end of warmup, 1 at the last step."""
    return jnp.clip((step - warmup) / jnp.maximum(steps - warmup, 1), 0, 1)


@register("train.schedules", "constant")
def constant() -> Schedule:
    return lambda step, warmup, steps: _warmed(step, warmup, 1.0)


@register("train.schedules", "cosine")
def cosine(*, final: Factor = 0.1) -> Schedule:
    """Half a cosine from 1 to ``final`` (Loshchilov & Hutter 2017, without restarts; GPT-3 ends at 0.1)."""

    def factor(step, warmup, steps):
        return _warmed(step, warmup, final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * _progress(step, warmup, steps))))

    return factor


@register("train.schedules", "linear")
def linear(*, final: Factor = 0.0) -> Schedule:
    """A straight line from 1 to ``final``."""
    return lambda step, warmup, steps: _warmed(step, warmup, 1 - (1 - final) * _progress(step, warmup, steps))


@register("train.schedules", "rsqrt")
def rsqrt() -> Schedule:
    """sqrt(warmup / step), the transformer's own (Vaswani et al. 2017, equation 3)."""

    def factor(step, warmup, steps):
        return _warmed(step, warmup, jnp.sqrt(jnp.maximum(warmup, 1) / jnp.maximum(step, 1)))

    return factor


@register("train.schedules", "wsd")
def wsd(*, decay: Share = 0.2, final: Factor = 0.0) -> Schedule:
    """Warmup, stable, then the last ``decay`` of the steps fall as 1 - sqrt (Hägele et al. 2024, section 3)."""

    def factor(step, warmup, steps):
        fallen = jnp.clip((step - (1 - decay) * steps) / jnp.maximum(decay * steps, 1), 0, 1)
        return _warmed(step, warmup, 1 - (1 - final) * jnp.sqrt(fallen))

    return factor
