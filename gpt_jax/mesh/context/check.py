"""Whether a model's texts can be split as a configuration asks, before anything is compiled."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from gpt_jax.config import Config, ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.mesh.context.texts import TextSplit
from gpt_jax.mesh.context_strategy import AXIS, Strategy, strategy_of
from gpt_jax.mesh.context_strategy import WHERE as STRATEGY
from gpt_jax.mesh.mesh import batch_shards
from gpt_jax.model import gpt
from gpt_jax.model.attend import backend
from gpt_jax.model.mlp import moe
from gpt_jax.model.where import Spread

SIZE = f"config.mesh.{AXIS}"


def check(mesh: Mesh, config: Config) -> None:
    """Refuses a model whose texts cannot be split over the mesh as the configuration asks.

    Raises:
      UserError: which part of it cannot, and what can.
    """
    parts, model = mesh.shape[AXIS], config.model
    if parts == 1:
        return
    strategy = strategy_of(config.mesh)
    unit = parts * (2 if strategy.reorders else 1)
    if model.context % unit:
        _refuse_length(parts, unit, model.context)
    _check_order(strategy, model)
    _check_backend(strategy, model)
    whole = nnx.eval_shape(lambda: gpt.GPT(model, nnx.Rngs(params=0)))
    for call, block in zip(model.attentions, whole.blocks.values(), strict=False):
        if not hasattr(block.attention, "spec"):
            raise UserError(
                f"model.attention {call!r} reads its tokens one after another, and mesh.{AXIS}={parts} splits them",
                where=f"config.model.attention, {SIZE}",
                allowed=f"mechanisms over a softmax, or mesh.{AXIS}=1",
            )
    spread, shape = Spread(texts=TextSplit(mesh, strategy)), (batch_shards(mesh), model.context)
    tokens_BT = jax.ShapeDtypeStruct(shape, jnp.int32)
    segments_BT = tokens_BT if config.data.pack == "segments" else None
    jax.eval_shape(lambda m, *rows: m.hidden(*rows, spread=spread), whole, tokens_BT, None, segments_BT)


def _refuse_length(parts: int, unit: int, context: int) -> None:
    fitting = [n for n in range(1, context + 1) if context % (n * unit // parts) == 0]
    below = max((n for n in fitting if n < parts), default=1)
    above = min((n for n in fitting if n > parts), default=None)
    near = f"{below}" if above is None else f"{below} or {above}"
    raise UserError(
        f"model.context = {context} does not divide into {unit} equal parts, as mesh.{AXIS}={parts} with this strategy asks",
        where=f"{SIZE}, config.model.context",
        allowed=f"mesh.{AXIS} {near}, or a model.context that is a multiple of {unit}",
    )


def _check_order(strategy: Strategy, model: ModelConfig) -> None:
    if strategy.reorders and moe.settings(model.mlp).capacity:
        raise UserError(
            "experts with a capacity take a text's earliest tokens first, and in zig-zag order these are not the first",
            where=f"{STRATEGY}, config.model.mlp",
            fix="--config.mesh.context_strategy='ring(zigzag=False)', or capacity=0",
        )


def _check_backend(strategy: Strategy, model: ModelConfig) -> None:
    name = backend(model.attend).name
    if strategy.backends and name not in strategy.backends:
        raise UserError(
            f"the context strategy {strategy.name!r} computes attention itself, and model.attend asks for {name!r}",
            where=f"config.model.attend, {STRATEGY}",
            allowed=f"model.attend {' or '.join(strategy.backends)}; or another context_strategy",
        )
