"""Low-rank adaptation."""

from gpt_jax.registry import options, register
from gpt_jax.train.adapters.low_rank import LowRank, Options


@register("train.adapters", "lora", examples=("lora(rank=2)", "lora(rank=2, rs=True, full='norm')"), typical="lora")
@options(Options)
def lora(**given) -> LowRank:
    """W + s A B, with A and B of rank ``rank`` in place of W (Hu et al. 2021, section 4.1)."""
    return LowRank(Options(**given), magnitude=False)
