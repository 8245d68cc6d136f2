"""Losses and gradients of a batch, whole or in micro-batches: pure functions of (parameters, batch)."""

import functools

import jax
import jax.numpy as jnp

from gpt_jax.train import losses, optim
from gpt_jax.train.forward import ModelForward, Recipe
from gpt_jax.train.monitors import gradient_noise
from gpt_jax.train.objectives import Batch

SUMMED_IN_FLOAT16 = 2**14  # of what is counted; a mean derivative up to 4 does not overflow


def loss_and_grads(recipe: Recipe, state: dict, batch: Batch, hyper: dict) -> tuple[dict, dict]:
    """Mean loss over all that the batch counts, and its gradient, over ``train.accumulate`` micro-batches.

    Args:
      hyper: what steps take as arguments; "fixed" has the parameters that are not trained, where there are some.
    """
    config, objective = recipe.config, recipe.objective
    fixed = hyper["fixed"] if "fixed" in hyper else {}
    if config.model.dropout:
        batch = {**batch, "keys": _example_keys(hyper["seed"], state["step"], len(batch["tokens"]))}
    counted = objective.count(batch)
    count = jnp.maximum(counted, 1)
    # A row's share of a mean over many is below float16's range, and a sum over many above it.
    narrow = jnp.finfo(config.model.dtype).maxexp < jnp.finfo(jnp.float32).maxexp
    after = jnp.minimum(count, SUMMED_IN_FLOAT16) if narrow else 1
    inside = count / after if narrow else count
    parts = config.train.accumulate
    micros = jax.tree.map(functools.partial(_split, parts), batch) if parts > 1 else None
    coupled = _coupled(recipe, state["params"], fixed, batch, micros)
    trained = optim.trained(config, state["params"])

    def mean(trained, micro, experts):
        params = optim.joined(trained, state["params"])
        forward = ModelForward.of(recipe, params, fixed, coupled)
        sums = objective.sums(forward, micro)
        weight, load_LE = experts or (objective.count(micro), None)
        sums = losses.with_experts(sums, forward.report, weight, load_LE)
        return sums["objective"] / inside, sums

    gradient = jax.grad(mean, has_aux=True)
    scattered = {}
    if micros is None:
        grads, sums = gradient(trained, batch, ())
    else:
        experts = (counted / parts, _loads(recipe, state["params"], fixed, micros))
        gradient = functools.partial(gradient, experts=experts)

        def add(total, micro):
            found = gradient(trained, micro)
            return jax.tree.map(jnp.add, total, found), (gradient_noise.square(found[0]), objective.count(micro))

        zeros = jax.eval_shape(gradient, trained, jax.tree.map(lambda x: x[0], micros))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), zeros)
        (grads, sums), (squares_A, count_A) = jax.lax.scan(add, zeros, micros)
        squares_A, square = squares_A / after**2, gradient_noise.square(grads) / after**2
        scattered = gradient_noise.estimate(squares_A, count_A, square, count)
    if narrow:
        grads = jax.tree.map(lambda g: g / after, grads)
    means = {name: value / count for name, value in sums.items() if name not in ("objective", "tokens")}
    return losses.over_layers(means) | scattered | {"tokens": count}, grads


def eval_step(recipe: Recipe, params: dict, batch: Batch, byte_lengths_V: jax.Array, fixed: dict | None = None) -> dict:
    """``Objective.evaluation`` of one batch: sums over its rows."""
    fixed = fixed or {}
    coupled = _coupled(recipe, params, fixed, batch, None)
    forward = ModelForward.of(recipe, params, fixed, coupled)
    forward.byte_lengths_V = byte_lengths_V
    return recipe.objective.evaluation(forward, batch)


def _coupled(recipe: Recipe, params: dict, fixed: dict, batch: Batch, micros: Batch | None) -> dict:
    """What couples the rows of the batch, without a gradient, from one forward pass of its own."""

    def sums(rows):
        found = recipe.objective.coupled(ModelForward.of(recipe, params, fixed), rows)
        return jax.tree.map(jax.lax.stop_gradient, found)

    if micros is None or not jax.eval_shape(sums, jax.tree.map(lambda x: x[0], micros)):
        return sums(batch)
    return jax.tree.map(lambda a: a.sum(0), jax.lax.map(sums, micros))


def _loads(recipe: Recipe, params: dict, fixed: dict, micros: Batch) -> jax.Array | None:
    """The loads of all experts over all micro-batches, [L, E], if a loss depends on them: it takes a forward pass of its
    own, since the derivative of any micro-batch needs them."""

    def report(micro):
        forward = ModelForward.of(recipe, params, fixed)
        forward.states(micro)
        return forward.report

    if "moe_pull" not in jax.eval_shape(report, jax.tree.map(lambda x: x[0], micros)):
        return None
    return jax.lax.map(lambda micro: report(micro)["moe_load"], micros).mean(0)


def _example_keys(seed: jax.Array, step: jax.Array, batch: int) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(batch))


def _split(parts: int, x: jax.Array) -> jax.Array:
    """[B, …] -> [parts, B/parts, …], each part with rows from every shard, so that no device is idle in any."""
    return x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
