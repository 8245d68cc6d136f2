"""Products of rows with the matrix of their group, where how many rows a group has is known only at run time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gpt_jax.model.attend import wide

BLOCK = 128


@jax.custom_vjp
def grouped_dot(x_RD: jax.Array, w_EDF: jax.Array, sizes_E: jax.Array) -> jax.Array:
    """x[r] w[e(r)], [R, F], of rows sorted by group, ``sizes_E`` in each.

    XLA has an operation for it, which on a CPU multiplies every row with every group's matrix.
    """
    return jax.lax.platform_dependent(x_RD, w_EDF, sizes_E, cpu=_product, default=ragged_product)


def _forward(x_RD, w_EDF, sizes_E):
    return grouped_dot(x_RD, w_EDF, sizes_E), (x_RD, w_EDF, sizes_E)


def _backward(saved, dy_RF):
    x_RD, w_EDF, sizes_E = saved
    dx_RD = grouped_dot(dy_RF, w_EDF.mT, sizes_E)
    dw_EDF = jax.lax.platform_dependent(x_RD, dy_RF, sizes_E, cpu=_outer, default=ragged_outer)
    return dx_RD, dw_EDF.astype(w_EDF.dtype), None


grouped_dot.defvjp(_forward, _backward)


def _one_by_one(f: Callable) -> Callable:
    """``f``, whose operation the compilers of accelerators have without a batch alone: of a batch one after another."""
    found = jax.custom_batching.custom_vmap(f)

    @found.def_vmap
    def batched(size, split, *operands):
        whole = [
            a if is_split else jnp.broadcast_to(a, (size, *a.shape))
            for a, is_split in zip(operands, split, strict=True)
        ]
        if size == 1:
            return found(*(a[0] for a in whole))[None], True
        return jax.lax.map(lambda one: found(*one), tuple(whole)), True

    return found


@_one_by_one
def ragged_product(x_RD, w_EDF, sizes_E):
    return jax.lax.ragged_dot(x_RD, w_EDF, sizes_E)


@_one_by_one
def ragged_outer(x_RD, dy_RF, sizes_E):
    rows = jax.lax.RaggedDotDimensionNumbers(
        (((0,), (0,)), ((), ())), lhs_ragged_dimensions=(0,), rhs_group_dimensions=()
    )
    dtype = wide(x_RD.dtype)
    return jax.lax.ragged_dot_general(x_RD, dy_RF, sizes_E, rows, preferred_element_type=dtype)


def _product(x_RD, w_EDF, sizes_E):
    """A block of one group's rows after another."""
    rows, (count, group, start, _), size = len(x_RD), *_blocks(len(x_RD), sizes_E)
    x_RD = jnp.pad(x_RD, ((0, size), (0, 0)))

    def write(c, y_RF):
        y_MF = jax.lax.dynamic_slice_in_dim(x_RD, start[c], size) @ w_EDF[group[c]]
        # Rows past the end of the group are the next one's, which comes after and overwrites them.
        return jax.lax.dynamic_update_slice_in_dim(y_RF, y_MF, start[c], 0)

    return jax.lax.fori_loop(0, count, write, jnp.zeros((rows + size, w_EDF.shape[2]), x_RD.dtype))[:rows]


def _outer(x_RD, dy_RF, sizes_E):
    """For every group the sum over its rows of x[r] dy[r], [E, D, F]."""
    (count, group, start, filled), size = _blocks(len(x_RD), sizes_E)
    x_RD, dy_RF = (jnp.pad(a, ((0, size), (0, 0))) for a in (x_RD, dy_RF))

    def add(c, dw_EDF):
        x_MD, dy_MF = (jax.lax.dynamic_slice_in_dim(a, start[c], size) for a in (x_RD, dy_RF))
        dy_MF = jnp.where(jnp.arange(size)[:, None] < filled[c], dy_MF, 0)
        return dw_EDF.at[group[c]].add(jnp.dot(x_MD.T, dy_MF, preferred_element_type=dw_EDF.dtype))

    shape = (len(sizes_E), x_RD.shape[1], dy_RF.shape[1])
    return jax.lax.fori_loop(0, count, add, jnp.zeros(shape, wide(x_RD.dtype)))


def _blocks(rows: int, sizes_E: jax.Array) -> tuple[tuple[jax.Array, ...], int]:
    """How many blocks there are; by block its group, its first row and how many rows it has; and the most of these."""
    size = min(BLOCK, rows)
    blocks_E = -(-sizes_E // size)
    c = jnp.arange(rows // size + len(sizes_E))
    group = jnp.minimum(jnp.searchsorted(jnp.cumsum(blocks_E), c, side="right"), len(sizes_E) - 1)
    before = (c - (jnp.cumsum(blocks_E) - blocks_E)[group]) * size
    start = (jnp.cumsum(sizes_E) - sizes_E)[group] + before
    return (blocks_E.sum(), group, start, sizes_E[group] - before), size
