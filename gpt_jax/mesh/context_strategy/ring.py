"""Keys and values go round a ring of devices, and every device adds up its queries' softmax as they come by."""

import functools

import jax
import jax.numpy as jnp

from gpt_jax.limits import Rows
from gpt_jax.mesh.context_strategy import AXIS, Strategy
from gpt_jax.model.attend import EVERYTHING, wide
from gpt_jax.model.attend.blockwise import backward, forward, laid_out, mean_of, reachable, sink_gradient
from gpt_jax.registry import register


@register("mesh.context_strategy", "ring", examples=("ring", "ring(zigzag=False, block=4)"))
def ring(*, zigzag: bool = True, block: Rows = 512) -> Strategy:
    """Ring attention (Liu et al. 2023): no device holds more than its part of the keys and values and one that is on its
    way. The backward pass sends them round again, with their gradients.

    Args:
      zigzag: tokens are dealt out so that every device has as much to do; otherwise the last device does twice the mean.
      block: queries, and keys, whose scores exist at once.
    """
    run = functools.partial(_run, block)
    can = EVERYTHING - {"cache", "mixing", "dropout", "reach"}
    return Strategy("ring", run, _sent, can, backends=("auto", "blockwise"), reorders=zigzag)


def _sent(parts, queries, keys, size, again):
    gradients = max(size, 4)  # which are added up in float32 or better
    return (parts - 1) * 2 * keys * (size * (2 + again) + gradients)


def _run(block, parts, backend, spec, q_BNTH, k_BKTH, v_BKTJ, queries, extras, kept):
    b, n, t, _ = q_BNTH.shape
    sizes, q, k, v, queries, keys = laid_out(block, q_BNTH, k_BKTH, v_BKTJ, queries, queries)
    sink = None if extras.sink_N is None else extras.sink_N.reshape(q.shape[1:3])
    y = _attend(spec, sizes, parts, queries, keys, q, k, v, sink, extras.position)
    return y[:, :, :, :t].reshape(b, n, t, -1)


def _shift(parts, tree):
    """To the next device."""
    return jax.tree.map(lambda a: jax.lax.ppermute(a, AXIS, [(i, (i + 1) % parts) for i in range(parts)]), tree)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _attend(spec, sizes, parts, queries, keys, q, k, v, sink, position):
    return _forward(spec, sizes, parts, queries, keys, q, k, v, sink, position)[0]


def _forward(spec, sizes, parts, queries, keys, q, k, v, sink, position):
    def of_part(held):
        k, v, keys = held
        blocks = reachable(spec, sizes, queries, keys)
        return forward(spec, sizes, blocks, queries, keys, q, k, v, None, position, wide(q.dtype))

    def add(carry, _):
        held, y, logz = carry
        held = _shift(parts, held)
        y_part, logz_part = of_part(held)
        both = jnp.logaddexp(logz, logz_part)
        y = y * jnp.exp(logz - both)[..., None] + y_part * jnp.exp(logz_part - both)[..., None]
        return (held, y, both), None

    (_, y, logz), _ = jax.lax.scan(add, ((k, v, keys), *of_part((k, v, keys))), length=parts - 1)
    if sink is not None:
        both = jnp.logaddexp(logz, sink[..., None].astype(logz.dtype))
        y, logz = y * jnp.exp(logz - both)[..., None], both
    y = y.astype(q.dtype)
    return y, (queries, keys, q, k, v, sink, position, y, logz)


def _backward(spec, sizes, parts, saved, dy):
    queries, keys, q, k, v, sink, position, y, logz = saved
    mean = mean_of(dy, y)

    def add(held, found):
        k, v, keys = held
        blocks = reachable(spec, sizes, queries, keys)
        new = backward(spec, sizes, blocks, queries, keys, q, k, v, position, logz, mean, dy)
        return jax.tree.map(jnp.add, found, new)

    def go_on(carry, _):
        held, (dq, dk, dv, d_position) = carry
        held = _shift(parts, held)
        dq, dk, dv, d_position = add(held, (dq, dk, dv, d_position))
        return (held, (dq, *_shift(parts, (dk, dv)), d_position)), None

    dtype = wide(q.dtype)
    zeros = (*(jnp.zeros(a.shape, dtype) for a in (q, k, v)), jax.tree.map(jnp.zeros_like, position))
    (_, found), _ = jax.lax.scan(go_on, ((k, v, keys), zeros), length=parts - 1)
    dq, dk, dv, d_position = add((k, v, keys), found)  # their gradients are home again
    d_sink = sink_gradient(sink, logz, mean)
    return None, None, dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), d_sink, d_position


_attend.defvjp(_forward, _backward)
