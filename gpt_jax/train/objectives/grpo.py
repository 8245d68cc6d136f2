"""Policy gradients without a critic: a completion is compared with others of its prompt (Shao et al. 2024)."""

from typing import Annotated

from gpt_jax.limits import Decay, Factor, Limits
from gpt_jax.registry import register
from gpt_jax.train.objectives.policy import Clip, Divergence, Policy


@register(
    "train.objectives",
    "grpo",
    examples=(
        "grpo",
        "grpo(advantage='group(std=False)', mean='constant', kl=0.0)",
        "grpo(advantage='loo', mean='sequences', ratio='product', kl=0.05, kl_estimator='k1')",
        "grpo(mean='tokens', clip_high=0.28, mask_cut=True, dual_clip=3.0, resample=1)",
        "grpo(weighted=True, mean='tokens', entropy=0.01, kl_estimator='k2')",
    ),
)
def grpo(
    *,
    advantage: str = "group",
    mean: str = "sequences",
    clip_low: Decay = 0.2,
    clip_high: Factor = 0.2,
    dual_clip: Factor = 0.0,
    ratio: str = "token",
    weighted: bool = False,
    kl: Factor = 0.04,
    kl_estimator: str = "k3",
    entropy: Factor = 0.0,
    mask_cut: bool = False,
    resample: Annotated[int, Limits(0, 64)] = 0,
) -> Policy:
    """mean of max(-A ratio, -A clip(ratio, 1 - clip_low, 1 + clip_high)) + kl * k3 (equation 3).

    Other methods are other arguments: Dr. GRPO (Liu et al. 2025), DAPO (Yu et al. 2025), RLOO (Ahmadian et al. 2024),
    REINFORCE++ (Hu 2025), GSPO (Zheng et al. 2025) and CISPO (MiniMax 2025) are presets ``tune:…``.

    Args:
      advantage: of ``gpt_jax/train/advantages``.
      mean: of the losses of targets. "sequences": of each completion, then over completions. "tokens": over all targets.
        "constant": over completions, of sums divided by the most tokens that one may have.
      clip_low, clip_high, dual_clip, ratio, weighted: see ``Clip``.
      kl: what a nat of divergence from the reference costs; in the loss it is that of each target, in the same mean.
      kl_estimator: k1, in the reward; k2 or k3, in the loss.
      entropy: what a nat of entropy is worth, in the same mean (TRL: over all targets).
      mask_cut: completions that the policy did not end are left out of the loss; their reward counts in its group.
      resample: how often other prompts are answered in place of those whose completions are all worth the same (Yu et al.
        2025, section 3.2).
    """
    return Policy(
        advantage=advantage,
        mean=mean,
        clip=Clip(clip_low, clip_high, dual_clip, ratio, weighted),
        critic=None,
        divergence=Divergence(kl, kl_estimator),
        entropy=entropy,
        mask_cut=mask_cut,
        resample=resample,
    )
