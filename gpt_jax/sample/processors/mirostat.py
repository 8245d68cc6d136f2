"""A truncation that steers towards a surprise per token."""

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.limits import Factor, Positive
from gpt_jax.registry import register
from gpt_jax.sample.processors import Processor, Vocabulary

NATS = float(np.log(2))  # of a bit


@register("sample.processors", "mirostat", examples=("mirostat(tau=3.0)", "mirostat(tau=1.0, eta=0.5)"))
def mirostat(given: Vocabulary, *, tau: Positive, eta: Factor = 0.1) -> Processor:
    """Keeps tokens of a surprise of at most mu bits, and the likeliest; mu <- mu - eta (surprise - tau) after each
    (Basu et al. 2021; version 2 as in llama.cpp).

    mu starts at 2 tau. The surprise of what was drawn is that in the distribution it was drawn from.
    """
    knobs = {"tau_B": np.float32(tau), "eta_B": np.float32(eta), "mu_B": np.float32(2 * tau)}
    return Processor(change, knobs, warps=True, advance=advance)


def change(logits_BV, step, tau_B, eta_B, mu_B):
    surprise_BV = -jax.nn.log_softmax(logits_BV) / NATS
    kept_BV = (surprise_BV <= mu_B[:, None]) | (logits_BV == logits_BV.max(-1, keepdims=True))
    return jnp.where(kept_BV, logits_BV, -jnp.inf)


def advance(logits_BV, tokens_B, step, tau_B, eta_B, mu_B):
    log_B1 = jnp.take_along_axis(jax.nn.log_softmax(logits_BV), tokens_B[:, None], axis=1)
    return {"mu_B": mu_B - eta_B * (-log_B1[:, 0] / NATS - tau_B)}
