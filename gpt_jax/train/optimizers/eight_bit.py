"""An optimizer's moments in eight bits a number (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization").

A moment is cut into blocks along its last axis. A block is divided by its largest magnitude, and each quotient becomes the
nearest of 256 values (section 2.2, "dynamic quantization"): in (10^-k, 10^(1-k)], for k from 1 to 7, they are the midpoints
of equal steps, half as many for each k more. So small numbers have as many digits as fit, and the largest is exact.

Codes have the shape of their parameter and scales its axes, so that both are split over a mesh by the parameter's rule.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gpt_jax.backend import target_platform
from gpt_jax.train.optimizers.matrices import is_vector, leading
from gpt_jax.tree_paths import path_of

DECADES = 7
LARGEST_BLOCK, SMALLEST_BLOCK = 256, 32  # a scale is four bytes: an eighth of a block of 32
SMALLEST_ARRAY = 4096  # numbers; below, moments stay in float32 (section 3, as the authors' library does)
WAYS = 8  # devices that an axis is likely to be split over, of which each should have whole blocks


class Quantized(NamedTuple):
    """A tree of moments.

    Args:
      codes: uint8 in the shape of the parameter; where it stays in float32, the moment itself.
      scales: float32, a number a block: the parameter's shape with its last axis divided by the block; else None.
    """

    codes: Any
    scales: Any


def quantized(
    inner: optax.GradientTransformation, scanned: bool, moments: dict[str, bool]
) -> optax.GradientTransformation:
    """``inner`` with some of its state in eight bits between updates. An update reads it back, computes in float32 and
    rounds what it has; its direction is not rounded.

    Args:
      inner: treats every number by itself; its state is a named tuple.
      moments: the fields that are trees like the parameters, begin at 0 and are coded, and whether their numbers have
        signs. Those without keep above 0 what is above 0: a second moment that vanished would make the quotient with the
        first one infinite.
    """

    def init(params):
        return inner.init(params)._replace(
            **{name: _blank(params, signed, scanned) for name, signed in moments.items()}
        )

    def update(grads, state, params=None):
        leaves, treedef = jax.tree.flatten(grads)
        coded = {name: _leaves(getattr(state, name), treedef) for name in moments}
        directions, rows, other, done = [], [], state, None
        for i, grad in enumerate(leaves):
            given = {name: coded[name][i] for name in moments}
            grad = grad if done is None else _after(grad, done)
            read = {name: _read(*given[name], signed) for name, signed in moments.items()}
            direction, other = inner.update(grad, state._replace(**read))
            directions.append(direction)
            rows.append({name: _written(getattr(other, name), given[name], moments[name]) for name in moments})
            done = next((scales for _, scales in rows[-1].values() if scales is not None), done)
        trees = {
            name: Quantized(*(treedef.unflatten([row[name][j] for row in rows]) for j in (0, 1))) for name in moments
        }
        return treedef.unflatten(directions), other._replace(**trees)

    return optax.GradientTransformation(init, update)


def is_coded(path: str, shape: tuple[int, ...], scanned: bool) -> bool:
    """Whether the moments of a parameter are kept in eight bits: whether it is a matrix, and large enough."""
    own = shape[leading(path, scanned) :]
    large = int(np.prod(own)) >= SMALLEST_ARRAY and shape[-1] >= SMALLEST_BLOCK
    return large and not is_vector(path, jax.ShapeDtypeStruct(shape, jnp.float32), scanned)


def block_of(size: int) -> int:
    """Numbers of a block on an axis of ``size``: the most that divide it, into parts for ``WAYS`` devices if there are
    such; the last block is shorter where none do."""
    sizes = range(min(size, LARGEST_BLOCK), SMALLEST_BLOCK - 1, -1)
    whole = [block for block in sizes if size % block == 0]
    split = [block for block in whole if size // block % WAYS == 0]
    return next(iter([*split, *whole, min(size, LARGEST_BLOCK)]))


def encode(x: jax.Array, signed: bool) -> tuple[jax.Array, jax.Array]:
    """Codes, uint8 [..., n], and scales, float32 [..., blocks], of x [..., n]."""
    block = block_of(x.shape[-1])
    blocks = _cut(x, block)
    scales = jnp.abs(blocks).max(-1)
    ratios = blocks / jnp.where(scales > 0, scales, 1)[..., None]
    codes = _codes(ratios, signed)
    return codes.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]], scales


def decode(codes: jax.Array, scales: jax.Array, signed: bool) -> jax.Array:
    """x [..., n], float32."""
    blocks = _cut(codes, block_of(codes.shape[-1]))
    values = _values(blocks, signed) * scales[..., None]
    return values.reshape(*codes.shape[:-1], -1)[..., : codes.shape[-1]]


def code_book(signed: bool) -> np.ndarray:
    """The 256 values in increasing order, float32: of codes 0, 1, 2, …"""
    positive = np.concatenate([_decade(k, signed) for k in range(DECADES)])
    negative = -positive[::-1] if signed else np.zeros(0)
    return np.concatenate([negative, [0], positive, [1]]).astype(np.float32)


def _decade(k: int, signed: bool) -> np.ndarray:
    """Of the k-th decade, from the smallest: 2^k values, or twice as many where no bit is a sign's."""
    edges = np.linspace(0.1, 1, 2 ** (k + (not signed)) + 1)
    return 10.0 ** (k + 1 - DECADES) * (edges[1:] + edges[:-1]) / 2


def _codes(ratios: jax.Array, signed: bool) -> jax.Array:
    """The nearest code of numbers up to 1, by arithmetic: a search in the code book would be a gather for each number."""
    book, zero, bits = code_book(signed).astype(np.float64), 127 if signed else 0, int(not signed)
    size = jnp.abs(ratios)
    found = jnp.zeros_like(size)
    for k in range(DECADES):
        count, first = 2 ** (k + bits), 2 ** (k + bits) - bits
        edge = np.float32(book[zero + first - 1 : zero + first + 1].mean()) if k or signed else 0
        steps = jnp.floor(size * np.float32(count / 0.9 * 10.0 ** (DECADES - 1 - k)) - np.float32(count / 9))
        found = jnp.where(size > edge, first + jnp.clip(steps, 0, count - 1), found)
    found = jnp.where(ratios > np.float32(book[-2:].mean()), 255 - zero, found)  # 1 has no counterpart below 0
    return (zero + jnp.where(ratios < 0, -found, found)).astype(jnp.uint8)


def _values(codes: jax.Array, signed: bool) -> jax.Array:
    """What codes stand for: ``code_book``'s values, which are linear in the code within a decade."""
    zero, bits = 127 if signed else 0, int(not signed)
    code = codes.astype(jnp.float32) - zero
    size = jnp.abs(code)
    value = jnp.zeros(codes.shape, jnp.float32)
    for k in range(DECADES):
        first, slope = 2 ** (k + bits) - bits, 0.9 / 2 ** (k + bits) * 10.0 ** (k + 1 - DECADES)
        least = np.float32(10.0 ** (k - DECADES) + slope / 2)
        value = jnp.where(size >= first, least + np.float32(slope) * (size - first), value)
    value = jnp.where(code == 255 - zero, 1, value)
    return jnp.where(code < 0, -value, value)


def _cut(x: jax.Array, block: int) -> jax.Array:
    """[..., n] -> [..., blocks, block], with zeros after the last number."""
    rest = -x.shape[-1] % block
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, rest)]) if rest else x
    return x.reshape(*x.shape[:-1], -1, block)


def _after(x: jax.Array, done: jax.Array) -> jax.Array:
    """x, once ``done`` is there: one parameter after another, the moments of few are there in float32 at a time."""
    if target_platform() != "cpu":
        return jax.lax.optimization_barrier((x, done))[0]
    # XLA's CPU backend drops barriers before it orders operations. A step with a scale that is not finite is not applied.
    first = done[(0,) * done.ndim]
    return jnp.where(jnp.isnan(first), first, x)


def _blank(params: Any, signed: bool, scanned: bool) -> Quantized:
    """Of zeros."""

    def codes(path, p):
        coded = is_coded(path_of(path), p.shape, scanned)
        return jnp.full(p.shape, 127 if signed else 0, jnp.uint8) if coded else jnp.zeros_like(p)

    def scales(path, p):
        blocks = -(-p.shape[-1] // block_of(p.shape[-1])) if p.ndim else 0
        return jnp.zeros((*p.shape[:-1], blocks), jnp.float32) if is_coded(path_of(path), p.shape, scanned) else None

    return Quantized(*(jax.tree_util.tree_map_with_path(part, params) for part in (codes, scales)))


def _leaves(moment: Quantized, treedef: Any) -> list[tuple[jax.Array, jax.Array | None]]:
    return list(zip(treedef.flatten_up_to(moment.codes), treedef.flatten_up_to(moment.scales), strict=True))


def _read(codes: jax.Array, scales: jax.Array | None, signed: bool) -> jax.Array:
    return codes if scales is None else decode(codes, scales, signed)


def _written(x: jax.Array, before: tuple, signed: bool) -> tuple[jax.Array, jax.Array | None]:
    return (x, None) if before[1] is None else encode(x, signed)
