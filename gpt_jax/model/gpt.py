"""The GPT: embed tokens, run the stack of blocks, read out logits."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.model import init as initial
from gpt_jax.model import remat
from gpt_jax.model.cache import NOTHING, hold, rings
from gpt_jax.model.lookup import lookup
from gpt_jax.model.readout import Projection, Readout, logits_of
from gpt_jax.model.where import ALONE, Place, Spread, Where, dropout

EMBED_DROPOUT_LAYER = 2**31 - 1  # a "layer" of its own, for the keys of the embedding's dropout


class Embedding(nnx.Module):
    """A trained vector per token: w [V, D]."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.w = nnx.Param(initial.normal(config, "embed", rngs, (config.vocab, config.width)))


class Embed(nnx.Module):
    """Tokens and their positions to the first state of the residual stream."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.tokens = Embedding(config, rngs)
        self.position: Any = registry.build(
            "model.position", config.position, config, rngs, where="config.model.position"
        )
        self.scale = config.embed_scale

    def __call__(self, tokens_BT: jax.Array, positions_BT: jax.Array | None, dtype: jnp.dtype) -> jax.Array:
        x_BTD = lookup(self.tokens.w[...], tokens_BT, dtype)
        return self.position.embed(x_BTD if self.scale == 1 else self.scale * x_BTD, positions_BT)


class GPT(nnx.Module):
    """A decoder-only transformer (Radford et al. 2019).

    ``blocks`` is unrolled or stacked as ``config.scan`` says (see ``layout``); the values are the same either way.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config
        self.embed = Embed(config, rngs)
        self.blocks = nnx.Dict(_blocks(config, rngs.params()))
        placement, _ = registry.parse(config.block, where="config.model.block")
        block: Any = registry.lookup("model.block", placement, where="config.model.block")
        self.norm: Any = registry.build("model.norm", config.norm, config.width, config) if block.final_norm else None
        self.readout = Readout(config, rngs)

    def __call__(self, tokens_BT, positions_BT=None, segments_BT=None, keys_B=None) -> jax.Array:
        """Logits of the next token, float32 [B, T, V]. Arguments as in ``hidden``."""
        x_BTD, _ = self.hidden(tokens_BT, positions_BT, segments_BT, keys_B)
        return self.logits(x_BTD)

    def hidden(
        self,
        tokens_BT,
        positions_BT=None,
        segments_BT=None,
        keys_B=None,
        place: Place | None = None,
        spread: Spread = ALONE,
    ) -> tuple[jax.Array, dict]:
        """The normalised last state of the residual stream, [B, T, D] in ``config.dtype``, and what the layers report of
        themselves: name -> an array with a leading axis of the layers that report it.

        Args:
          tokens_BT: ids below ``config.vocab``.
          positions_BT: None for 0, 1, 2, …; packed documents restart them.
          segments_BT: document numbers; attention stays within equal ones.
          keys_B: one dropout key an example, or None for none.
          place: applied to the stream before the first layer and after each; where sharding constraints go.
          spread: how devices share the work.
        """
        where = Where(positions_BT=positions_BT, segments_BT=segments_BT, keys_B=keys_B, spread=spread)
        where = where if place is None else dataclasses.replace(where, place=place)
        moves = None if spread.texts is None else spread.texts.moves(tokens_BT.shape[1])
        if moves is None:
            x_BTD, _, report = self._run(tokens_BT, where, cache=None)
            return x_BTD, report
        enter, leave = moves
        x_BTD, _, report = self._run(enter(tokens_BT), where.moved(enter, tokens_BT.shape[1]), cache=None)
        return leave(x_BTD), report

    def extend(self, tokens_BT, cache: dict, start, positions_BT, window: int = 0) -> tuple[jax.Array, dict]:
        """``hidden`` of T more tokens after those in the cache, and the cache with them appended.

        Args:
          cache: of ``init_cache``.
          start: the turn of the first of them, an int or traced; the others follow. Of each row, where it has rank 1.
          positions_BT: their positions in the text; -1 for padding, which nothing attends to.
          window: how many positions attention goes back, at most, with the token's own; 0 = any number.
        """
        held, real_BT = hold(cache["held"], positions_BT, start), positions_BT > NOTHING
        where = Where(positions_BT=positions_BT.clip(0), start=start, held=held, real_BT=real_BT, window=window)
        x_BTD, blocks, _ = self._run(tokens_BT, where, cache["blocks"])
        return x_BTD, {"held": held, "blocks": blocks}

    def init_cache(self, batch: int, length: int, most: int | None = None) -> dict:
        """An empty cache for ``batch`` rows of up to ``length`` tokens.

        Args:
          most: tokens that ``extend`` may be given at a time; None: any number.

        Returns: "blocks", in the layout of the model's, and "held" (see ``Where``).
        """
        dtype, most = jnp.dtype(self.config.dtype), most or length

        def empty(block):
            return block.attention.init_cache(batch, length, most, dtype)

        scanned = self.config.scan
        blocks = {i: jax.vmap(empty)(block) if scanned else empty(block) for i, block in self.blocks.items()}
        slots = {found.slots for found in rings(blocks)}
        return {"held": {size: jnp.full((batch, size), NOTHING, jnp.int32) for size in slots}, "blocks": blocks}

    def projection(self) -> Projection:
        """The map from ``hidden`` to logits."""
        w_DV = self.embed.tokens.w[...].T if self.readout.w is None else self.readout.w[...]
        bias = self.readout.bias
        return Projection(w_DV, None if bias is None else bias[...], self.config.logit_softcap, self.config.vocab)

    def logits(self, x_BTD: jax.Array) -> jax.Array:
        return logits_of(x_BTD, self.projection())

    def _run(self, tokens_BT, where: Where, cache: dict | None):
        x_BTD = self.embed(tokens_BT, where.positions_BT, jnp.dtype(self.config.dtype))
        x_BTD = where.place(dropout(x_BTD, self.config.dropout, where.for_layer(EMBED_DROPOUT_LAYER).keys_B, 0))
        where = dataclasses.replace(where, position=self.embed.position, embedded_BTD=x_BTD)
        where = dataclasses.replace(where, values_BKTH=self._first_values(x_BTD, where))
        run = self._scanned if self.config.scan else self._unrolled
        x_BTD, cache, report = run(x_BTD, where, cache)
        return self.finish(x_BTD), cache, report

    def finish(self, x_BTD: jax.Array) -> jax.Array:
        """A state of the residual stream, [B, T, D], normalised for the readout."""
        x_BTD = x_BTD if self.norm is None else self.norm(x_BTD)
        factor = initial.scheme(self.config).logits
        return x_BTD if factor == 1 else factor * x_BTD

    def _first_values(self, x_BTD, where: Where) -> jax.Array | None:
        """The first layer's values, where the layers above mix them in."""
        block = self.blocks["0"]
        if self.config.scan:
            block = jax.tree.map(lambda leaf: leaf[0], block)
        give = getattr(block.attention, "values", None)
        return None if give is None else give(block.attended(x_BTD, where))

    def _unrolled(self, x_BTD, where, cache):
        step = _step(self.config.remat, where.spread)
        new_cache, reports = {}, []
        for i in range(self.config.layers):
            layer_cache = None if cache is None else cache[str(i)]
            x_BTD, new_cache[str(i)], report = step(self.blocks[str(i)], x_BTD, where, i, layer_cache)
            reports.append(report)
        return x_BTD, (None if cache is None else new_cache), _stacked(reports)

    def _in_line(self, x_BTD, where):
        """Layers that are stacked, one after another without a loop."""
        step, period, reports = _step(self.config.remat, where.spread), len(self.config.attentions), []
        layers = {j: _apart(stack) for j, stack in self.blocks.items()}
        for i in range(self.config.layers):
            x_BTD, _, report = step(layers[str(i % period)][i // period], x_BTD, where, i, None)
            reports.append(report)
        return x_BTD, None, _stacked(reports)

    def _scanned(self, x_BTD, where, cache):
        step = _step(self.config.remat, where.spread)
        period = len(self.config.attentions)
        stages = where.spread.stages if cache is None else None
        if cache is None and stages is None and self.config.scan >= self.config.layers:
            return self._in_line(x_BTD, where)

        def cycle(where, x_BTD, inputs):
            blocks, layer, caches = inputs
            out, reports = {}, []
            for j in range(period):
                given = None if caches is None else caches[str(j)]
                x_BTD, out[str(j)], report = step(blocks[str(j)], x_BTD, where, layer + j, given)
                reports.append(report)
            return x_BTD, (None if caches is None else out, _stacked(reports))

        def layers(x_BTD, where, stacks):
            unroll = max(1, int(self.config.scan) // period)
            x_BTD, (cache, report) = jax.lax.scan(functools.partial(cycle, where), x_BTD, stacks, unroll=unroll)
            return x_BTD, cache, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), report)

        stacks = dict(self.blocks.items()), jnp.arange(0, self.config.layers, period), cache
        return layers(x_BTD, where, stacks) if stages is None else stages.run(layers, x_BTD, where, stacks)


@jax.custom_vjp
def _apart(stack: Any) -> list[Any]:
    """The members of a stack. Autodiff would add up gradients of the whole stack, one for each; these are put together."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stack) for i in range(len(jax.tree.leaves(stack)[0]))]


_apart.defvjp(
    lambda stack: (_apart(stack), None),
    lambda _, grads: (jax.tree.map(lambda *leaves: jnp.stack(leaves), *grads),),
)


def _stacked(reports: list[dict]) -> dict:
    """One report of several layers, with a leading axis of layers; a name that some lack has fewer."""
    names = {name for report in reports for name in report}
    return {name: jnp.stack([report[name] for report in reports if name in report]) for name in sorted(names)}


def _step(policy: str, spread: Spread):
    def step(block, x_BTD, where, layer, cache):
        x_BTD, cache, report = where.spread.layer(block, x_BTD.dtype)(x_BTD, where.for_layer(layer), cache)
        return where.place(x_BTD), cache, report

    return remat.recomputed(step, policy, gathers=spread.layer is not ALONE.layer)


def _blocks(config: ModelConfig, key: jax.Array) -> dict[str, Any]:
    """The layers, each from a key of its own, so that both layouts start from the same values."""
    cycle = config.attentions
    keys = jax.random.split(key, config.layers)

    def block(attention, key):
        return registry.build("model.block", config.block, config, attention, nnx.Rngs(params=key))

    if config.scan:
        return {str(j): jax.vmap(functools.partial(block, call))(keys[j :: len(cycle)]) for j, call in enumerate(cycle)}
    return {str(i): block(cycle[i % len(cycle)], keys[i]) for i in range(config.layers)}


@functools.cache
def graphdef(config: ModelConfig) -> nnx.GraphDef:
    """The model's code without its values: ``nnx.merge(graphdef(config), params)`` gives a GPT back."""
    return nnx.split(nnx.eval_shape(lambda: GPT(config, nnx.Rngs(params=0))))[0]


def init(config: ModelConfig, key: jax.Array) -> dict:
    """Fresh parameters: nested dicts of float32 arrays. Pure, so that ``jax.jit`` can have them born sharded."""
    return nnx.to_pure_dict(nnx.split(GPT(config, nnx.Rngs(params=key)))[1])
