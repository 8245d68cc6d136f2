"""Low-rank adaptation of directions, with magnitudes of their own."""

from gpt_jax.registry import options, register
from gpt_jax.train.adapters.low_rank import LowRank, Options


@register("train.adapters", "dora", examples=("dora(rank=2)",), typical="dora")
@options(Options)
def dora(**given) -> LowRank:
    """g (W + s A B) / |W + s A B|, by columns of outputs, with the norm's derivative left out (Liu et al. 2024, equations 5
    and 11)."""
    return LowRank(Options(**given), magnitude=True)
