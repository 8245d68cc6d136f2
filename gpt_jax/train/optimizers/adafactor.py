"""Adafactor: second moments kept as row and column means."""

import optax

from gpt_jax.limits import Count, Positive, Share
from gpt_jax.registry import register
from gpt_jax.train.optimizers.matrices import per_matrix


@register("train.optimizers", "adafactor")
def adafactor(
    *, scanned: bool, decay_rate: Share = 0.8, clip: Positive = 1.0, min_dim: Count = 128
) -> optax.GradientTransformation:
    """Shazeer & Stern 2018: relative step sizes (times the parameter's RMS), update clipping, no momentum.

    Args:
      clip: largest RMS of a tensor's update before it is scaled.
      min_dim: matrices with a smaller side keep unfactored second moments.
    """
    chain = optax.chain(
        optax.scale_by_factored_rms(decay_rate=decay_rate, min_dim_size_to_factor=min_dim),
        optax.clip_by_block_rms(clip),
        optax.scale_by_param_block_rms(),
    )
    return per_matrix(chain, scanned)
