"""0 for a completion that is short enough, and down to -1 for one that is not."""

from gpt_jax.errors import UserError
from gpt_jax.limits import Count
from gpt_jax.registry import register
from gpt_jax.train.rewards import WHERE, Reward


@register("train.rewards", "overlong", examples=("overlong(longest=64, soft=16)",))
def overlong(*, longest: Count, soft: Count) -> Reward:
    """DAPO's soft punishment of length (Yu et al. 2025, equation 13): 0 up to ``longest`` - ``soft`` tokens, from there
    (longest - soft - n) / soft, and -1 from ``longest`` on.

    Args:
      longest: tokens, with the one that ends a completion; ``sample.max_new_tokens`` where nothing may be cut.
      soft: the last tokens before that, over which the punishment grows.

    Raises:
      UserError: ``soft`` is more than ``longest``.
    """
    if soft > longest:
        raise UserError(f"overlong(longest={longest}, soft={soft})", where=WHERE, allowed=f"soft up to {longest}")
    free = longest - soft
    return lambda completions: [-min(max(len(completion.ids) - free, 0) / soft, 1.0) for completion in completions]
