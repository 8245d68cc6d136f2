"""The GPT: embed tokens, run the stack of blocks, read out logits."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.model import init as initial
from gpt_jax.model.linear import matmul
from gpt_jax.model.where import Where, dropout

EMBED_DROPOUT_LAYER = 2**31 - 1  # a "layer" of its own, for the keys of the embedding's dropout

REMAT_POLICIES = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class Embedding(nnx.Module):
    """A trained vector per token: w [V, D]."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.w = nnx.Param(initial.normal(config, "embed", rngs, (config.vocab, config.width)))


class Embed(nnx.Module):
    """Tokens and their positions to the first state of the residual stream."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.tokens = Embedding(config, rngs)
        self.position = registry.build("model.position", config.position, config, rngs)

    def __call__(self, tokens_BT: jax.Array, positions_BT: jax.Array | None, dtype: jnp.dtype) -> jax.Array:
        return self.position(self.tokens.w[...].astype(dtype)[tokens_BT], positions_BT)


class Readout(nnx.Module):
    """The output projection of a model whose embedding is not tied to it: w [D, V]."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.w = nnx.Param(initial.normal(config, "readout", rngs, (config.width, config.vocab)))


class GPT(nnx.Module):
    """A decoder-only transformer (Radford et al. 2019).

    ``blocks`` is unrolled or stacked as ``config.scan`` says (see ``layout``); the values are the same either way.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config
        self.embed = Embed(config, rngs)
        self.blocks = nnx.Dict(_blocks(config, rngs.params()))
        self.norm = registry.build("model.norm", config.norm, config.width, config)
        self.readout = None if config.tied else Readout(config, rngs)

    def __call__(self, tokens_BT, positions_BT=None, segments_BT=None, keys_B=None) -> jax.Array:
        """Logits of the next token, float32 [B, T, V]. Arguments as in ``hidden``."""
        x_BTD = self.hidden(tokens_BT, positions_BT, segments_BT, keys_B)
        return self.logits(x_BTD)

    def hidden(self, tokens_BT, positions_BT=None, segments_BT=None, keys_B=None) -> jax.Array:
        """The normalised last state of the residual stream, [B, T, D] in ``config.dtype``.

        Args:
          tokens_BT: ids below ``config.vocab``.
          positions_BT: None for 0, 1, 2, …; packed documents restart them.
          segments_BT: document numbers; attention stays within equal ones.
          keys_B: one dropout key an example, or None for none.
        """
        where = Where(positions_BT=positions_BT, segments_BT=segments_BT, keys_B=keys_B)
        return self._run(tokens_BT, where, cache=None)[0]

    def extend(self, tokens_BT, cache, start, positions_BT, valid_BS) -> tuple[jax.Array, dict]:
        """``hidden`` of T more tokens after those in the cache, and the cache with them appended.

        Args:
          start: the slot of the first of them (traced); the others follow.
          positions_BT: their positions in the text.
          valid_BS: which of the cache's slots may be attended to: False for left padding.
        """
        where = Where(positions_BT=positions_BT, start=start, valid_BS=valid_BS)
        return self._run(tokens_BT, where, cache)

    def init_cache(self, batch: int, length: int) -> dict:
        """An empty cache for ``batch`` rows of up to ``length`` tokens, in the layout of ``blocks``."""
        dtype = jnp.dtype(self.config.dtype)

        def empty(block):
            return block.attention.init_cache(batch, length, dtype)

        return {i: jax.vmap(empty)(block) if self.config.scan else empty(block) for i, block in self.blocks.items()}

    def readout_DV(self) -> jax.Array:
        """The matrix that turns ``hidden`` into logits."""
        return self.embed.tokens.w[...].T if self.readout is None else self.readout.w[...]

    def logits(self, x_BTD: jax.Array) -> jax.Array:
        return matmul(x_BTD, self.readout_DV().astype(x_BTD.dtype), jnp.promote_types(x_BTD.dtype, jnp.float32))

    def _run(self, tokens_BT, where: Where, cache: dict | None):
        x_BTD = self.embed(tokens_BT, where.positions_BT, jnp.dtype(self.config.dtype))
        x_BTD = dropout(x_BTD, self.config.dropout, where.for_layer(EMBED_DROPOUT_LAYER).keys_B, 0)
        run = self._scanned if self.config.scan else self._unrolled
        x_BTD, cache = run(x_BTD, where, cache)
        return self.norm(x_BTD), cache

    def _unrolled(self, x_BTD, where, cache):
        step = _remat(self.config.remat)
        new_cache = {}
        for i in range(self.config.layers):
            layer_cache = None if cache is None else cache[str(i)]
            x_BTD, new_cache[str(i)] = step(self.blocks[str(i)], x_BTD, where, i, layer_cache)
        return x_BTD, (None if cache is None else new_cache)

    def _scanned(self, x_BTD, where, cache):
        step = _remat(self.config.remat)
        period = len(self.config.attentions)

        def cycle(x_BTD, inputs):
            blocks, layer, caches = inputs
            out = {}
            for j in range(period):
                given = None if caches is None else caches[str(j)]
                x_BTD, out[str(j)] = step(blocks[str(j)], x_BTD, where, layer + j, given)
            return x_BTD, (None if caches is None else out)

        first_layers = jnp.arange(0, self.config.layers, period)
        return jax.lax.scan(cycle, x_BTD, (dict(self.blocks.items()), first_layers, cache))


def _remat(policy: str):
    def step(block, x_BTD, where, layer, cache):
        return block(x_BTD, where.for_layer(layer), cache)

    return step if policy == "none" else jax.checkpoint(step, policy=REMAT_POLICIES[policy], static_argnums=())


def _blocks(config: ModelConfig, key: jax.Array) -> dict[str, Any]:
    """The layers, each from a key of its own, so that both layouts start from the same values."""
    cycle = config.attentions
    keys = jax.random.split(key, config.layers)

    def block(attention, key):
        return registry.build("model.block", config.block, config, attention, nnx.Rngs(params=key))

    if config.scan:
        return {str(j): jax.vmap(functools.partial(block, call))(keys[j :: len(cycle)]) for j, call in enumerate(cycle)}
    return {str(i): block(cycle[i % len(cycle)], keys[i]) for i in range(config.layers)}


def graphdef(config: ModelConfig) -> nnx.GraphDef:
    """The model's code without its values: ``nnx.merge(graphdef(config), params)`` gives a GPT back."""
    return nnx.split(nnx.eval_shape(lambda: GPT(config, nnx.Rngs(params=0))))[0]


def init(config: ModelConfig, key: jax.Array) -> dict:
    """Fresh parameters: nested dicts of float32 arrays. Pure, so that ``jax.jit`` can have them born sharded."""
    return nnx.to_pure_dict(nnx.split(GPT(config, nnx.Rngs(params=key)))[1])
