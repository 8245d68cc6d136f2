"""A flash attention kernel in Pallas, forward and backward, for NVIDIA GPUs; interpreted elsewhere, for tests.

Blocks of queries run in parallel; each loops over the blocks of keys that its reach allows, with a running softmax (Dao
2023, algorithm 1). The backward pass is two kernels, one for queries and one for keys and values (algorithm 2). Which
keys are visible is ``Reach.seen``, as in all backends.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from gpt_jax.errors import UserError
from gpt_jax.limits import Rows
from gpt_jax.model.attend import AttentionSpec, Backend, capped
from gpt_jax.registry import register

HIDDEN = -1e30
WIDEST = 256  # channels of a head: the sums of a block of more do not fit the registers of a multiprocessor


@register("model.attend", "pallas", examples=("pallas(block=16, interpret=True)",))
def pallas(*, block: Rows = 64, interpret: bool = False) -> Backend:
    """Windows, chunks, strides, soft caps, sinks and packed documents, in memory linear in the length. Heads of up to 256
    channels.

    Args:
      block: queries, and keys, of one step of a kernel: a power of 2, 16 or more.
      interpret: run the kernel's operations one by one on any device, slowly: to test it.
    """
    if block < 16 or block & (block - 1):
        raise UserError(f"pallas(block={block})", where="config.model.attend", allowed="a power of 2, 16 or more")
    can = frozenset({"window", "chunk", "stride", "softcap", "sink", "segments"})
    run = functools.partial(_run, block, interpret)
    dtypes, platforms = ("float32", "bfloat16", "float16"), () if interpret else ("gpu",)
    return Backend("pallas", run, can, platforms, dtypes, opaque=True, widest=None if interpret else lambda: WIDEST)


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a kernel is compiled for: heads N, kv heads K, T tokens in blocks, and how it is run."""

    heads: int
    kv_heads: int
    length: int
    block: int
    interpret: bool

    @property
    def blocks(self) -> int:
        return self.length // self.block


def _run(block, interpret, spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
    b, n, t, h = q_BNTH.shape
    # Exact float32 products are unrolled multiplications: larger blocks of them take the compiler minutes.
    block = min(block, 32) if q_BNTH.dtype == jnp.float32 and not interpret else block
    shape = Shape(n, k_BKSH.shape[1], pl.cdiv(t, block) * block, block, interpret)
    width = max(16, pl.next_power_of_2(h))
    q, k, v = (_pad(a, (shape.length, width)) for a in (q_BNTH, k_BKSH, v_BKSJ))
    position, segment = (
        None if a is None else _pad(jnp.broadcast_to(a, (b, t)).astype(jnp.int32), (shape.length,))
        for a in (queries.position_BT, queries.segment_BT)
    )
    y = _attend(spec, shape, q, k, v, position, segment, extras.sink_N)
    return y[:, :, :t, :h]


def _pad(a, sizes):
    """Zeros after the last axes, up to ``sizes``. Tokens that are filled in come last: no real one sees them."""
    lead = a.ndim - len(sizes)
    return jnp.pad(a, [(0, 0)] * lead + [(0, size - old) for size, old in zip(sizes, a.shape[lead:], strict=True)])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(spec, shape, q, k, v, position, segment, sink):
    return _forward(spec, shape, q, k, v, position, segment, sink)[0]


def _forward(spec, shape, q, k, v, position, segment, sink):
    b, n, t, h = q.shape
    kernel = functools.partial(_forward_kernel, spec, shape)
    y, logz = _call(
        kernel,
        shape,
        (b, n, shape.blocks),
        [(q, _rows), (k, _all_of_group), (v, _all_of_group), (position, _tokens), (segment, _tokens), (sink, _head)],
        [(q.shape, q.dtype, _rows), ((b, n, t), jnp.float32, _row_numbers)],
    )
    return y, (q, k, v, position, segment, sink, y, logz)


def _backward(spec, shape, saved, dy):
    q, k, v, position, segment, sink, y, logz = saved
    b, n, t, h = q.shape
    mean = (dy.astype(jnp.float32) * y.astype(jnp.float32)).sum(-1)
    dq = _call(
        functools.partial(_queries_kernel, spec, shape),
        shape,
        (b, n, shape.blocks),
        [(q, _rows), (k, _all_of_group), (v, _all_of_group), (position, _tokens), (segment, _tokens)]
        + [(dy, _rows), (logz, _row_numbers), (mean, _row_numbers)],
        [(q.shape, q.dtype, _rows)],
    )[0]
    dk, dv = _call(
        functools.partial(_keys_kernel, spec, shape),
        shape,
        (b, shape.kv_heads, shape.blocks),
        [(q, _heads_of_group), (k, _rows), (v, _rows), (position, _tokens), (segment, _tokens)]
        + [(dy, _heads_of_group), (logz, _numbers_of_group), (mean, _numbers_of_group)],
        [(k.shape, k.dtype, _rows), (v.shape, v.dtype, _rows)],
    )
    d_sink = None
    if sink is not None:
        d_sink = -(jnp.exp(sink[:, None].astype(jnp.float32) - logz) * mean).sum((0, 2)).astype(sink.dtype)
    return dq, dk, dv, None, None, d_sink


_attend.defvjp(_forward, _backward)


def _forward_kernel(spec, shape, q_ref, k_ref, v_ref, position_ref, segment_ref, sink_ref, y_ref, logz_ref):
    i = pl.program_id(2)
    q, at_q = q_ref[...], _at(shape, i, position_ref, segment_ref)

    def add(j, carry):
        top, total, y = carry
        here = pl.ds(j * shape.block, shape.block)
        scores, seen = _scores(spec, q, k_ref[here, :], at_q, _at(shape, j, position_ref, segment_ref))
        scores = jnp.where(seen, scores, HIDDEN)
        new_top = jnp.maximum(top, scores.max(1))
        p = jnp.where(seen, jnp.exp(scores - new_top[:, None]), 0.0)
        shrink = jnp.exp(top - new_top)
        v = v_ref[here, :]
        return new_top, total * shrink + p.sum(1), y * shrink[:, None] + _dot(p.astype(v.dtype), v)

    top = jnp.full((shape.block,), HIDDEN, jnp.float32)
    total = jnp.zeros((shape.block,), jnp.float32)
    if sink_ref is not None:
        top, total = top * 0 + sink_ref[0].astype(jnp.float32), total + 1
    start = (top, total, jnp.zeros(q.shape, jnp.float32))
    top, total, y = jax.lax.fori_loop(*_keys_seen(spec, shape, i), add, start)
    y_ref[...] = (y / total[:, None]).astype(y_ref.dtype)
    logz_ref[...] = top + jnp.log(total)


def _queries_kernel(spec, shape, q_ref, k_ref, v_ref, position_ref, segment_ref, dy_ref, logz_ref, mean_ref, dq_ref):
    i = pl.program_id(2)
    q, dy, logz, mean = q_ref[...], dy_ref[...], logz_ref[...], mean_ref[...]
    at_q = _at(shape, i, position_ref, segment_ref)

    def add(j, dq):
        here = pl.ds(j * shape.block, shape.block)
        k, v = k_ref[here, :], v_ref[here, :]
        _, ds = _back(spec, q, k, v, dy, logz, mean, at_q, _at(shape, j, position_ref, segment_ref))
        return dq + _dot(ds.astype(k.dtype), k)

    dq = jax.lax.fori_loop(*_keys_seen(spec, shape, i), add, jnp.zeros(q.shape, jnp.float32))
    dq_ref[...] = (dq * spec.scale).astype(dq_ref.dtype)


def _keys_kernel(
    spec, shape, q_ref, k_ref, v_ref, position_ref, segment_ref, dy_ref, logz_ref, mean_ref, dk_ref, dv_ref
):
    j = pl.program_id(2)
    k, v, at_k = k_ref[...], v_ref[...], _at(shape, j, position_ref, segment_ref)
    carry = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    for g in range(shape.heads // shape.kv_heads):

        def add(i, carry, g=g):
            dk, dv = carry
            here = pl.ds(i * shape.block, shape.block)
            q, dy = q_ref[g, here, :], dy_ref[g, here, :]
            at_q = _at(shape, i, position_ref, segment_ref)
            p, ds = _back(spec, q, k, v, dy, logz_ref[g, here], mean_ref[g, here], at_q, at_k)
            return dk + _dot(ds.T.astype(q.dtype), q), dv + _dot(p.T.astype(dy.dtype), dy)

        carry = jax.lax.fori_loop(*_queries_seeing(spec, shape, j), add, carry)
    dk_ref[...] = (carry[0] * spec.scale).astype(dk_ref.dtype)
    dv_ref[...] = carry[1].astype(dv_ref.dtype)


def _at(shape: Shape, i: Any, position_ref, segment_ref) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Slots, positions and segments of a block of tokens."""
    here = pl.ds(i * shape.block, shape.block)
    slots = i * shape.block + jnp.arange(shape.block)
    return slots, position_ref[here], None if segment_ref is None else segment_ref[here]


def _scores(spec: AttentionSpec, q, k, at_q, at_k):
    slots, positions = ((a[:, None], b[None, :]) for a, b in zip(at_q[:2], at_k[:2], strict=True))
    segments = None if at_q[2] is None else (at_q[2][:, None], at_k[2][None, :])
    return capped(_dot(q, k.T) * spec.scale, spec.softcap), spec.reach.seen(slots, positions, segments)


def _back(spec, q, k, v, dy, logz, mean, at_q, at_k):
    """Weights, and the derivative by the scaled products."""
    scores, seen = _scores(spec, q, k, at_q, at_k)
    p = jnp.where(seen, jnp.exp(scores - logz[:, None]), 0.0)
    ds = p * (_dot(dy, v.T) - mean[:, None])
    if spec.softcap:
        ds *= 1 - (scores / spec.softcap) * (scores / spec.softcap)
    return p, ds


def _dot(a, b):
    """A product in float32; of float32 operands without TF32."""
    precision = "highest" if a.dtype == jnp.float32 else "default"
    return jax.lax.dot(a, b, precision=precision, preferred_element_type=jnp.float32)


def _keys_seen(spec, shape, i):
    """The first, and one past the last, block of keys that a block of queries may see."""
    width = _width(spec, shape)
    if not width:
        return 0, i + 1
    return jnp.maximum(i * shape.block - width + 1, 0) // shape.block, i + 1


def _queries_seeing(spec, shape, j):
    width = _width(spec, shape)
    if not width:
        return j, shape.blocks
    return j, jnp.minimum(((j + 1) * shape.block + width - 2) // shape.block + 1, shape.blocks)


def _width(spec, shape):
    """How many tokens a query sees at most; 0 = no such limit. Any more than the text has would make sums overflow."""
    return min(spec.reach.window or spec.reach.chunk, shape.length)


# How an array is cut up for the program (b, n, i), n being a head of what the kernel writes.
def _rows(shape, a):
    return pl.BlockSpec((None, None, shape.block, a[-1]), lambda b, n, i: (b, n, i, 0))


def _row_numbers(shape, a):
    return pl.BlockSpec((None, None, shape.block), lambda b, n, i: (b, n, i))


def _all_of_group(shape, a):
    groups = shape.heads // shape.kv_heads
    return pl.BlockSpec((None, None, *a[2:]), lambda b, n, i: (b, n // groups, 0, 0))


def _heads_of_group(shape, a):
    return pl.BlockSpec((None, shape.heads // shape.kv_heads, *a[2:]), lambda b, n, i: (b, n, 0, 0))


def _numbers_of_group(shape, a):
    return pl.BlockSpec((None, shape.heads // shape.kv_heads, a[2]), lambda b, n, i: (b, n, 0))


def _tokens(shape, a):
    return pl.BlockSpec((None, a[1]), lambda b, n, i: (b, 0))


def _head(shape, a):
    return pl.BlockSpec((1,), lambda b, n, i: (n,))


def _call(kernel, shape, grid, inputs, outputs):
    """Runs a kernel over a grid; an input that is None reaches it as None."""
    given = [a is not None for a, _ in inputs]

    def with_gaps(*refs):
        rest = iter(refs)
        return kernel(*(next(rest) if there else None for there in given), *rest)

    return pl.pallas_call(
        with_gaps,
        grid=grid,
        in_specs=[cut(shape, a.shape) for a, cut in inputs if a is not None],
        out_specs=[cut(shape, size) for size, _, cut in outputs],
        out_shape=[jax.ShapeDtypeStruct(size, dtype) for size, dtype, _ in outputs],
        interpret=shape.interpret,
        compiler_params=None if shape.interpret else triton.CompilerParams(num_warps=4, num_stages=2),
    )(*(a for a, _ in inputs if a is not None))
