"""Proximal policy optimisation with a critic, as in learning from human feedback (Schulman et al. 2017; Ziegler et al. 2019;
Ouyang et al. 2022)."""

from gpt_jax.limits import Count, Decay, Factor
from gpt_jax.registry import register
from gpt_jax.train.objectives.policy import Clip, Critic, Divergence, Policy


@register(
    "train.objectives",
    "ppo",
    examples=("ppo", "ppo(kl=0.15, target=6.0, dual_clip=3.0)", "ppo(kl=0.1, kl_estimator='k2', value_clip=0.0)"),
)
def ppo(
    *,
    advantage: str = "gae",
    clip: Decay = 0.2,
    dual_clip: Factor = 0.0,
    kl: Factor = 0.05,
    kl_estimator: str = "k1",
    target: Factor = 0.0,
    horizon: Count = 10_000,
    value_weight: Factor = 0.1,
    value_clip: Factor = 0.2,
    entropy: Factor = 0.0,
    mask_cut: bool = False,
) -> Policy:
    """mean over targets of max(-A ratio, -A clip(ratio, 1 - clip, 1 + clip)) plus the critic's loss; the reward of a target
    is -kl log(policy / reference), and the last one has the completion's too.

    The critic is a linear head on the policy's own states, as in Ziegler et al. 2019.

    Args:
      advantage: of ``gpt_jax/train/advantages``; with one that needs no critic there is none.
      kl, kl_estimator: see ``grpo``.
      target: nats by which a completion may diverge, to which kl is adapted: it is multiplied by 1 + n / horizon times the
        relative error, at most 0.2, after each rollout of n completions (Ziegler et al. 2019, section 2.2). 0 = it stays.
      value_weight, value_clip: see ``Critic``.
    """
    return Policy(
        advantage=advantage,
        mean="tokens",
        clip=Clip(clip, clip, dual_clip),
        critic=Critic(value_weight, value_clip),
        divergence=Divergence(kl, kl_estimator, target, horizon),
        entropy=entropy,
        mask_cut=mask_cut,
    )
