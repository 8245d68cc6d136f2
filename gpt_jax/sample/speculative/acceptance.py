"""Which of the proposed tokens are kept, and what is drawn instead of the first that is not.

    a token x that was drawn from q is kept with probability min(1, p(x) / q(x)), p being the model's distribution;
    one that is not is replaced by a draw from norm(max(p - q, 0))

so that what is written has the distribution p (Leviathan et al. 2023, section 2.3 and appendix A.1).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


def decided(final_BV, greedy_B) -> jax.Array:
    """Final scores, of greedy rows with the most likely token alone (the first, among equals)."""
    likeliest_BV = jnp.arange(final_BV.shape[1]) == jnp.argmax(final_BV, axis=1)[:, None]
    return jnp.where(greedy_B[:, None] & ~likeliest_BV, -jnp.inf, final_BV)


def shares(scores_BV) -> jax.Array:
    """Their softmax; all 0 where no token is left."""
    left_B1 = scores_BV.max(-1, keepdims=True) > -jnp.inf
    return jnp.where(left_B1, jax.nn.softmax(jnp.where(left_B1, scores_BV, 0)), 0)


def kept(p_BV, q_BV, tokens_B, uniform_B) -> jax.Array:
    """Whether tokens drawn from q are kept, by numbers from 0 to below 1: u < p(x) / q(x), without the quotient."""
    p_B, q_B = (jnp.take_along_axis(a, tokens_B[:, None], axis=1)[:, 0] for a in (p_BV, q_BV))
    return uniform_B * q_B < p_B


def residual(p_BV, q_BV) -> jax.Array:
    """Scores of the distribution norm(max(p - q, 0)); of p itself where q is nowhere below it by rounding, or 0."""
    rest_BV = jnp.maximum(p_BV - q_BV, 0)
    return jnp.log(jnp.where(rest_BV.sum(-1, keepdims=True) > 0, rest_BV, p_BV))


@dataclass(frozen=True)
class Acceptance:
    """What became of the tokens that were proposed.

    Attributes:
      passes: of the model, after the one that reads the prompt.
      written: tokens that they wrote.
      proposed: tokens, without those beyond the length that was asked for.
      tested: those of them before which all were kept.
      accepted: those that were kept.
    """

    passes: int = 0
    written: int = 0
    proposed: int = 0
    tested: int = 0
    accepted: int = 0

    def __add__(self, other: "Acceptance") -> "Acceptance":
        return Acceptance(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def rate(self) -> float:
        """Of a token that is tested, to be kept: what sum over x of min(p(x), q(x)) is on average; nan without tests."""
        return self.accepted / self.tested if self.tested else float("nan")

    def __str__(self) -> str:
        if not self.proposed:
            return "no token was proposed"
        drafted = f"accepted {self.accepted / self.proposed:.0%} of {self.proposed / self.passes:.3g} drafted tokens"
        return f"{drafted}, {self.written / self.passes:.2g} tokens a pass"
