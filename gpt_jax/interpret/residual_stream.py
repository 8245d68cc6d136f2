"""The residual stream: its states by layer, the logit lens, and activation patching."""

import functools

import jax
import jax.numpy as jnp

from gpt_jax.config import ModelConfig
from gpt_jax.interpret.model import merged, nats


@functools.partial(jax.jit, static_argnums=0)
def streams(config: ModelConfig, params: dict, tokens_BT: jax.Array) -> jax.Array:
    """The stream before the first layer and after each, [L+1, B, T, D]."""
    seen: list[jax.Array] = []

    def keep(x_BTD):
        seen.append(x_BTD)
        return x_BTD

    merged(config, params).hidden(tokens_BT, place=keep)
    return jnp.stack(seen)


@functools.partial(jax.jit, static_argnums=0)
def logit_lens(config: ModelConfig, params: dict, tokens_BT: jax.Array) -> jax.Array:
    """Log-probabilities read off the stream at every depth by the model's own last norm and readout, [L+1, B, T, V]
    (nostalgebraist 2020). The last row is the model's prediction."""
    model = merged(config, params)
    return jnp.stack(
        [jax.nn.log_softmax(model.logits(model.finish(x_BTD))) for x_BTD in streams(config, params, tokens_BT)]
    )


@functools.partial(jax.jit, static_argnums=0)
def token_losses(config: ModelConfig, params: dict, tokens_BT: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """Nats of every target, [B, T]."""
    return nats(merged(config, params)(tokens_BT), targets_BT)


@functools.partial(jax.jit, static_argnums=0)
def patched(config: ModelConfig, params: dict, tokens_BT, donor_LBTD: jax.Array, layer, position) -> jax.Array:
    """Logits [B, T, V] where the stream at one depth and position is that of another text.

    Activation patching (Meng et al. 2022): of two texts that differ in one thing, the places that carry the difference are
    those where the donor's state carries the donor's answer over.

    Args:
      donor_LBTD: ``streams`` of the other text, as long as this one.
      layer: 0 = before the first layer, L = after the last.
    """
    depth = iter(range(len(donor_LBTD)))
    at_T1 = (jnp.arange(tokens_BT.shape[1]) == position)[:, None]

    def replace(x_BTD):
        i = next(depth)
        return jnp.where(at_T1 & (layer == i), donor_LBTD[i], x_BTD)

    model = merged(config, params)
    return model.logits(model.hidden(tokens_BT, place=replace)[0])


def patching(config: ModelConfig, params: dict, tokens_1T, donor_1T, answer: int, other: int) -> jax.Array:
    """How far each place carries the answer over, [L+1, T]: 0 = the last logits still prefer ``other`` as much as without
    a patch, 1 = they prefer ``answer`` as much as those of the donor's text."""
    layers, length = config.layers + 1, tokens_1T.shape[1]
    donor_LBTD = streams(config, params, donor_1T)

    def gap(logits_BTV):
        return logits_BTV[0, -1, answer] - logits_BTV[0, -1, other]

    model = jax.jit(lambda tokens_BT: merged(config, params)(tokens_BT))
    clean, wanted = gap(model(tokens_1T)), gap(model(donor_1T))
    places = [(layer, t) for layer in range(layers) for t in range(length)]
    gaps = jnp.stack([gap(patched(config, params, tokens_1T, donor_LBTD, *place)) for place in places])
    return ((gaps - clean) / (wanted - clean)).reshape(layers, length)
