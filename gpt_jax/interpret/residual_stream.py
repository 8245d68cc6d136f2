"""The residual stream: its states by layer, the logit lens, and activation patching."""

import dataclasses
import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
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


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two texts for patching, ids [1, T] each, and the two tokens after them that are compared; see ``patching``."""

    tokens_1T: jax.Array
    donor_1T: jax.Array
    answer: int
    rival: int

    @classmethod
    def of(cls, config: ModelConfig, tokens_1T, donor_1T, answer: int, rival: int) -> "Pair":
        """Raises ``UserError``: the texts are no ids of equal length, or the two tokens are no two of the vocabulary."""
        shapes = np.shape(tokens_1T), np.shape(donor_1T)
        if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] != 1 or not shapes[0][1]:
            raise UserError(
                f"a text of shape {shapes[0]} cannot be patched from a donor of shape {shapes[1]}",
                allowed="ids [1, T] of both, as many of each",
                fix="encode the texts, and choose two that differ in tokens and not in their number",
            )
        if answer == rival or not (0 <= answer < config.vocab and 0 <= rival < config.vocab):
            raise UserError(
                f"answer = {answer} and rival = {rival} cannot be compared",
                allowed=f"two ids of the vocabulary, 0 to {config.vocab - 1}",
            )
        return cls(jnp.asarray(tokens_1T), jnp.asarray(donor_1T), answer, rival)

    def gap(self, logits_BTV: jax.Array) -> jax.Array:
        """How much more the last logits prefer the answer."""
        return logits_BTV[0, -1, self.answer] - logits_BTV[0, -1, self.rival]

    def carried(self, config: ModelConfig, params: dict, patched: Iterable[jax.Array]) -> jax.Array:
        """How far each of the patched logits goes from the text's preference, 0, to that of the donor's, 1."""
        model = jax.jit(lambda tokens_BT: merged(config, params)(tokens_BT))
        clean, wanted = self.gap(model(self.tokens_1T)), self.gap(model(self.donor_1T))
        return (jnp.stack([self.gap(logits_BTV) for logits_BTV in patched]) - clean) / (wanted - clean)


def patching(config: ModelConfig, params: dict, tokens_1T, donor_1T, answer: int, rival: int) -> jax.Array:
    """How far each place carries the answer over, [L+1, T]: 0 = the last logits still prefer ``rival`` as much as without
    a patch, 1 = they prefer ``answer`` as much as those of the donor's text.

    Args:
      tokens_1T, donor_1T: ids of two texts of one length, after which ``answer`` and ``rival`` are compared.
      answer, rival: ids; the donor's text prefers the first.

    Raises:
      UserError: the texts are no ids of equal length, or the two tokens are no two of the vocabulary.
    """
    pair = Pair.of(config, tokens_1T, donor_1T, answer, rival)
    layers, length = config.layers + 1, pair.tokens_1T.shape[1]
    donor_LBTD = streams(config, params, pair.donor_1T)
    places = [(layer, t) for layer in range(layers) for t in range(length)]
    logits = (patched(config, params, pair.tokens_1T, donor_LBTD, *place) for place in places)
    return pair.carried(config, params, logits).reshape(layers, length)
