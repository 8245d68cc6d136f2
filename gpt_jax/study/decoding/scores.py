"""What a model makes of texts that were written, by itself or by people: one plain forward pass."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.config import ModelConfig
from gpt_jax.interpret.model import merged
from gpt_jax.model import layout
from gpt_jax.sample.platform import bucket

MOST = 2**24  # logits that exist at once
STRIDE = 4  # of the states that are kept


@dataclass(frozen=True)
class Scores:
    """Of the T tokens of a text after its prompt.

    Args:
      logprobs_T: natural logarithms of their probabilities.
      entropy_T: of the distributions that they were drawn from, in nats, before any truncation.
      states_SD: the last hidden state at every ``STRIDE``-th of them.
      top_ids_TN, top_logprobs_TN: the most likely tokens in the place of each, the likeliest first.
    """

    logprobs_T: np.ndarray
    entropy_T: np.ndarray
    states_SD: np.ndarray
    top_ids_TN: np.ndarray
    top_logprobs_TN: np.ndarray


def score(
    config: ModelConfig, params: dict, prompts: Sequence[np.ndarray], texts: Sequence[np.ndarray], top: int
) -> list[Scores]:
    """Scores of each text after its prompt.

    Args:
      params: in the layout that ``config.scan`` says.
      top: alternatives that are kept of each token, at least one.
    """
    params = layout.unstack(params, len(config.attentions)) if config.scan else params
    length = min(config.context, bucket(max(len(p) + len(t) for p, t in zip(prompts, texts, strict=True))))
    rows = max(1, min(32, MOST // (length * config.vocab)))
    found: list[Scores] = []
    for first in range(0, len(texts), rows):
        tokens_BT = np.zeros((rows, length), np.int32)
        group = list(zip(prompts[first : first + rows], texts[first : first + rows], strict=True))
        for row, (prompt, text) in enumerate(group):
            tokens_BT[row, : len(prompt) + len(text)] = [*prompt, *text]
        values = jax.device_get(_forward(config, params, tokens_BT, top))
        for row, (prompt, text) in enumerate(group):
            begin, end = len(prompt), len(prompt) + len(text)
            before, states_TD = slice(begin - 1, end - 1), values[2][row, begin:end]
            logprobs_T, entropy_T, ids_TN, logs_TN = (values[i][row, before] for i in (0, 1, 3, 4))
            found.append(Scores(logprobs_T, entropy_T, states_TD[::STRIDE].copy(), ids_TN, logs_TN))
    return found


@functools.partial(jax.jit, static_argnums=(0, 3))
def _forward(config: ModelConfig, params: dict, tokens_BT, top: int) -> tuple[jax.Array, ...]:
    """Of each place: log-probability of the token after it, entropy, last state, and the likeliest tokens after it."""
    model = merged(config, params)
    x_BTD, _ = model.hidden(tokens_BT)
    logs_BTV = jax.nn.log_softmax(model.logits(x_BTD))
    next_BT = jnp.roll(tokens_BT, -1, axis=1)
    chosen_BT = jnp.take_along_axis(logs_BTV, next_BT[..., None], axis=-1)[..., 0]
    entropy_BT = -jnp.sum(jnp.exp(logs_BTV) * jnp.maximum(logs_BTV, -1e30), axis=-1)
    top_logs_BTN, top_ids_BTN = jax.lax.top_k(logs_BTV, top)
    return chosen_BT, entropy_BT, x_BTD.astype(jnp.float32), top_ids_BTN.astype(jnp.int32), top_logs_BTN
