"""The networks of a mixture of experts, in parallel, and the two ways of routing tokens to them."""

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.model import init
from gpt_jax.model.mlp.activations import ACTIVATIONS, GATES
from gpt_jax.model.mlp.grouped import grouped_dot
from gpt_jax.model.where import Place


class ExpertLinear(nnx.Module):
    """A matrix and perhaps a bias for every expert: w [E, D, F], bias [E, F]."""

    def __init__(self, experts: int, inputs: int, outputs: int, config: ModelConfig, rngs: nnx.Rngs, role: str):
        std = init.scheme(config).std(role, inputs, outputs)
        self.w = nnx.Param(std * jax.random.normal(rngs.params(), (experts, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros((experts, outputs))) if config.biased("mlp") else None

    def ragged(self, x_XD: jax.Array, expert_X: jax.Array, sizes_E: jax.Array, total: Place | None = None) -> jax.Array:
        """Rows sorted by expert, ``sizes_E`` for each; rows after these are of none.

        Args:
          total: adds up products where the inputs are split over devices.
        """
        y_XF = grouped_dot(x_XD, self.w[...].astype(x_XD.dtype), sizes_E)
        y_XF = y_XF if total is None else total(y_XF)
        # Rounded after the rows are taken, so that their derivatives add up in float32.
        return y_XF if self.bias is None else y_XF + self.bias[...][expert_X].astype(x_XD.dtype)

    def padded(self, x_BECD: jax.Array, total: Place | None = None) -> jax.Array:
        """The same number of rows, C, for every expert. ``total`` as in ``ragged``."""
        y_BECF = jnp.einsum("BECD,EDF->BECF", x_BECD, self.w[...].astype(x_BECD.dtype))
        y_BECF = y_BECF if total is None else total(y_BECF)
        return y_BECF if self.bias is None else y_BECF + self.bias[...].astype(x_BECD.dtype)[:, None]


class Experts(nnx.Module):
    """The experts' networks, in parallel."""

    def __init__(self, experts: int, activation: str, config: ModelConfig, rngs: nnx.Rngs):
        d, f, e = config.width, config.mlp_width, experts
        self.up = ExpertLinear(e, d, f, config, rngs, "linear")
        self.gate = ExpertLinear(e, d, f, config, rngs, "linear") if activation in GATES else None
        self.down = ExpertLinear(e, f, d, config, rngs, "residual")
        self.activation = activation

    def hidden(self, product, x) -> jax.Array:
        """The hidden layer, by ``product(layer, x)``."""
        if self.gate is None:
            return ACTIVATIONS[self.activation](product(self.up, x))
        return GATES[self.activation](product(self.gate, x), product(self.up, x))

    def dropless(self, x_XD, chosen_XK, weight_XK, total: Place | None = None) -> jax.Array:
        """Every token through each expert it chose, and not through one of number E: rows sorted by expert, one ragged
        product a layer. ``total`` as in ``ExpertLinear.ragged``, where hidden channels are split."""
        k, e = chosen_XK.shape[1], self.up.w.shape[0]
        order_R = jnp.argsort(chosen_XK.reshape(-1), stable=True)
        expert_R = chosen_XK.reshape(-1)[order_R]
        sizes_E = jnp.bincount(expert_R, length=e).astype(jnp.int32)

        def product(layer, x_RD):
            return layer.ragged(x_RD, expert_R, sizes_E)

        y_RD = self.down.ragged(self.hidden(product, x_XD[order_R // k]), expert_R, sizes_E, total)
        y_RD *= weight_XK.reshape(-1)[order_R][:, None].astype(y_RD.dtype)
        return jnp.zeros_like(x_XD).at[order_R // k].add(y_RD)

    def limited(self, x_BTD, chosen_BTK, weight_BTK, room: int) -> tuple[jax.Array, jax.Array]:
        """Each expert computes the first ``room`` tokens of a row that chose it; also which were computed, [B, T, K]."""
        return limited(self.padded, len(self.up.w), x_BTD, chosen_BTK, weight_BTK, room)

    def padded(self, x_BECD: jax.Array, total: Place | None = None) -> jax.Array:
        """The same number of tokens, C, for every expert. ``total`` as in ``ExpertLinear.ragged``."""
        return self.down.padded(self.hidden(ExpertLinear.padded, x_BECD), total)


def limited(
    compute: Place, experts: int, x_BTD: jax.Array, chosen_BTK: jax.Array, weight_BTK: jax.Array, room: int
) -> tuple[jax.Array, jax.Array]:
    """See ``Experts.limited``.

    Args:
      compute: x_BECD -> y_BECD, C = ``room`` tokens of each row for each of so many experts.
    """
    b, t, k = chosen_BTK.shape
    asked_BRE = jax.nn.one_hot(chosen_BTK.reshape(b, t * k), experts, dtype=jnp.int32)
    place_BR = ((jnp.cumsum(asked_BRE, axis=1) - 1) * asked_BRE).sum(-1)
    served_BR = place_BR < room
    expert_BR = chosen_BTK.reshape(b, t * k)
    slot_BR = jnp.where(served_BR, expert_BR * room + place_BR, experts * room)
    rows_B1 = jnp.arange(b)[:, None]
    x_BRD = jnp.repeat(x_BTD, k, axis=1)
    buffer = jnp.zeros((b, experts * room + 1, x_BTD.shape[2]), x_BTD.dtype).at[rows_B1, slot_BR].set(x_BRD)
    y_BECD = compute(buffer[:, :-1].reshape(b, experts, room, -1))
    y_BSD = jnp.pad(y_BECD.reshape(b, experts * room, -1), ((0, 0), (0, 1), (0, 0)))
    y_BTKD = y_BSD[rows_B1, slot_BR].reshape(b, t, k, -1)
    served_BTK = served_BR.reshape(b, t, k)
    weight_BTK = jnp.where(served_BTK, weight_BTK, 0).astype(x_BTD.dtype)
    return jnp.einsum("BTKD,BTK->BTD", y_BTKD, weight_BTK), served_BTK
