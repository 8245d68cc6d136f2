"""Losses and gradients of a batch, whole or in micro-batches: pure functions of (parameters, batch)."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding

from gpt_jax.config import Config
from gpt_jax.train import gradient_noise, losses

Batch = dict[str, jax.Array]
SUMMED_IN_FLOAT16 = 2**14  # tokens; a mean derivative up to 4 does not overflow


@dataclass(frozen=True)
class Recipe:
    """What a step is compiled from: settings, the model's code, and the number of shards and sharding of a batch."""

    config: Config
    graphdef: nnx.GraphDef
    shards: int
    batch: NamedSharding


def loss_and_grads(recipe: Recipe, state: dict, batch: Batch, hyper: dict) -> tuple[dict, dict]:
    """Mean loss over all counted tokens of the batch, and its gradient, over ``train.accumulate`` micro-batches."""
    config = recipe.config
    if config.model.dropout:
        batch = {**batch, "keys": _example_keys(hyper["seed"], state["step"], len(batch["tokens"]))}
    tokens = jnp.maximum(batch["weights"].sum(), 1)
    # A token's share of a mean over many is below float16's range, and a sum over many above it.
    narrow = jnp.finfo(config.model.dtype).maxexp < jnp.finfo(jnp.float32).maxexp
    after = jnp.minimum(tokens, SUMMED_IN_FLOAT16) if narrow else 1
    inside = tokens / after if narrow else tokens

    def objective(params, micro, experts):
        sums = _sums(recipe, params, micro, *experts)
        return sums["objective"] / inside, sums

    gradient = jax.grad(objective, has_aux=True)
    scattered = {}
    if config.train.accumulate == 1:
        grads, sums = gradient(state["params"], batch, ())
    else:
        micros = jax.tree.map(functools.partial(_split, config.train.accumulate), batch)
        experts = (batch["weights"].sum() / config.train.accumulate, _loads(recipe, state["params"], micros))
        gradient = functools.partial(gradient, experts=experts)

        def add(total, micro):
            found = gradient(state["params"], micro)
            return jax.tree.map(jnp.add, total, found), (gradient_noise.square(found[0]), found[1]["tokens"])

        zeros = jax.eval_shape(gradient, state["params"], jax.tree.map(lambda x: x[0], micros))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), zeros)
        (grads, sums), (squares_A, tokens_A) = jax.lax.scan(add, zeros, micros)
        squares_A, square = squares_A / after**2, gradient_noise.square(grads) / after**2
        scattered = gradient_noise.estimate(squares_A, tokens_A, square, tokens)
    if narrow:
        grads = jax.tree.map(lambda g: g / after, grads)
    means = {name: value / tokens for name, value in sums.items() if name not in ("objective", "tokens")}
    return losses.over_layers(means) | scattered | {"tokens": tokens}, grads


def eval_step(recipe: Recipe, params: dict, batch: Batch, byte_lengths_V: jax.Array) -> dict:
    """Sums over the counted tokens of one batch: "loss" (nats), "tokens", "bytes" of the targets' text."""
    sums = _sums(recipe, params, batch)
    lengths_BT = byte_lengths_V[batch["targets"]]
    return {"loss": sums["loss"], "tokens": sums["tokens"], "bytes": (lengths_BT * batch["weights"]).sum()}


def _hidden(recipe: Recipe, model: nnx.Module, batch: Batch) -> tuple[jax.Array, dict]:
    """The last state of the stream, and what layers report."""
    parts = (batch.get(name) for name in ("positions", "segments", "keys"))
    # Else the compiler may split the stream as the parameters are, by channels, and keep every device's rows on all.
    place = functools.partial(jax.lax.with_sharding_constraint, shardings=recipe.batch)
    return model.hidden(batch["tokens"], *parts, place)


def _loads(recipe: Recipe, params: dict, micros: Batch) -> jax.Array | None:
    """The loads of all experts over all micro-batches, [L, E], if a loss depends on them: it takes a forward pass of its
    own, since the derivative of any micro-batch needs them."""

    def report(micro):
        return _hidden(recipe, nnx.merge(recipe.graphdef, params), micro)[1]

    if "moe_pull" not in jax.eval_shape(report, jax.tree.map(lambda x: x[0], micros)):
        return None
    return jax.lax.map(lambda micro: report(micro)["moe_load"], micros).mean(0)


def _sums(recipe: Recipe, params: dict, batch: Batch, weight=None, load_LE=None) -> dict:
    """``losses.cross_entropy`` of a batch, or of a part of one, with what layers report (``losses.with_experts``)."""
    config, model = recipe.config, nnx.merge(recipe.graphdef, params)
    x_BTD, report = _hidden(recipe, model, batch)
    sums = losses.cross_entropy(
        x_BTD,
        model.projection(),
        batch["targets"],
        batch["weights"],
        z_loss=config.train.z_loss,
        chunk=config.train.loss_chunk,
        shards=recipe.shards,
    )
    return losses.with_experts(sums, report, sums["tokens"] if weight is None else weight, load_LE)


def _example_keys(seed: jax.Array, step: jax.Array, batch: int) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(batch))


def _split(parts: int, x: jax.Array) -> jax.Array:
    """[B, …] -> [parts, B/parts, …], each part with rows from every shard, so that no device is idle in any."""
    return x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
