"""What heads attend to, and scores that distinguish kinds of heads."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax import notebook
from gpt_jax.config import ModelConfig
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.errors import UserError
from gpt_jax.interpret import figures
from gpt_jax.interpret.model import merged
from gpt_jax.model.attend.reference import collecting_weights


@dataclass(frozen=True, repr=False, eq=False)
class AttentionMaps:
    """What ``maps`` gives of one text, float32 [M, N, T, S], with the text's tokens as labels; a picture in notebooks."""

    weights_MNTS: jax.Array
    labels: list[str]

    def figure(self) -> Any:
        """A matplotlib figure: a row a layer, a column a head."""
        return figures.heads(np.asarray(self.weights_MNTS), self.labels)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.weights_MNTS, dtype, copy=copy)

    def __repr__(self) -> str:
        return f"AttentionMaps({' x '.join(map(str, self.weights_MNTS.shape))}: softmaxes, heads, queries, keys)"

    def _repr_html_(self) -> str:
        return notebook.picture(self.figure())


def label(tokenizer: Tokenizer | None, token: int) -> str:
    """A token as it stands beside a picture."""
    if tokenizer is None:
        return str(int(token))
    text = tokenizer.decode([int(token)]).replace(" ", "·").replace("$", r"\$")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def maps(config: ModelConfig, params: dict, tokens_BT: jax.Array) -> jax.Array:
    """The weights of every softmax, float32 [M, B, N, T, S]: row t of a map is the attention of query t.

    M counts the softmaxes in the order of the layers: one a layer, two for differential attention.

    Raises:
      UserError: the model's attention has no softmax, or its layers differ in heads.
    """
    weights = _maps(config, params, tokens_BT)
    if not weights or len({w.shape for w in weights}) > 1:
        raise UserError(
            "attention maps need a softmax in every layer, of as many heads",
            where=f"config.model.attention = {config.attention}",
            allowed="mechanisms over a softmax, such as full, sliding or differential",
        )
    return jnp.stack(weights)


@functools.partial(jax.jit, static_argnums=0)
def _maps(config: ModelConfig, params: dict, tokens_BT: jax.Array) -> list[jax.Array]:
    with collecting_weights() as collected:
        merged(config, params).hidden(tokens_BT)
    return [jnp.asarray(weights, jnp.float32) for weights in collected]


def prefix_matching(maps_MBNTS: jax.Array, tokens_BT: jax.Array) -> jax.Array:
    """How much of a head's attention goes to tokens that followed an earlier occurrence of the query's token, [M, N].

    The mean over queries whose token has occurred before (Olsson et al. 2022, "prefix matching"); 1 = all of it, as an
    ideal induction head's.
    """
    same_BTS = tokens_BT[:, :, None] == tokens_BT[:, None, :]
    earlier_TS = jnp.tril(jnp.ones(same_BTS.shape[1:], bool), -1)
    after_BTS = jnp.roll(same_BTS & earlier_TS, 1, axis=2) & jnp.tril(jnp.ones_like(earlier_TS))
    return _share(maps_MBNTS, after_BTS.at[:, :, 0].set(False))


def previous_token(maps_MBNTS: jax.Array) -> jax.Array:
    """How much of a head's attention goes to the token just before the query, [M, N]; the first query has none."""
    before_TS = jnp.eye(maps_MBNTS.shape[-1], k=-1, dtype=bool)
    return _share(maps_MBNTS, before_TS[None])


def duplicate_token(maps_MBNTS: jax.Array, tokens_BT: jax.Array) -> jax.Array:
    """How much of a head's attention goes to earlier occurrences of the query's own token, [M, N], where there are any."""
    same_BTS = tokens_BT[:, :, None] == tokens_BT[:, None, :]
    return _share(maps_MBNTS, jnp.tril(same_BTS, -1))


def entropy(maps_MBNTS: jax.Array) -> jax.Array:
    """Mean entropy of the rows, in nats, [M, N]: 0 where a head attends to one token."""
    logs = jnp.log(jnp.where(maps_MBNTS > 0, maps_MBNTS, 1))
    return -(maps_MBNTS * logs).sum(-1).mean((1, 3))


def _share(maps_MBNTS: jax.Array, wanted_BTS: jax.Array) -> jax.Array:
    """Attention to the wanted places, averaged over the queries that have any."""
    counted_BT = wanted_BTS.any(-1)
    there_MBNT = (maps_MBNTS * wanted_BTS[:, None]).sum(-1)
    weight_B1T = jnp.broadcast_to(counted_BT[:, None], there_MBNT.shape[1:2] + (1,) + there_MBNT.shape[3:])
    return (there_MBNT * weight_B1T).sum((1, 3)) / jnp.maximum(weight_B1T.sum(), 1)
