"""Attention within a shard_map over all axes of a mesh, which splits rows, heads and the tokens of texts."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from gpt_jax.errors import UserError
from gpt_jax.mesh.context.order import moves
from gpt_jax.mesh.context_strategy import AXIS, Strategy, check_features
from gpt_jax.mesh.mesh import BATCH_AXES, batch_shards
from gpt_jax.model.attend import AttentionSpec, Backend, Extras, Run, asked
from gpt_jax.model.where import Place, Tokens


@dataclasses.dataclass(frozen=True)
class TextSplit:
    """See ``where.Texts``."""

    mesh: Mesh
    strategy: Strategy

    @property
    def parts(self) -> int:
        return self.mesh.shape[AXIS]

    def moves(self, length: int) -> tuple[Place, Place] | None:
        return moves(self.mesh, AXIS) if self.strategy.reorders and self._divides(length) else None

    def attention(self, backend: Backend, dropping: bool) -> Run:
        return functools.partial(self._run, backend, dropping)

    def _divides(self, length: int) -> bool:
        return length % (self.parts * (2 if self.strategy.reorders else 1)) == 0

    def _run(self, backend, dropping, spec, q_BNTH, k_BKTH, v_BKTJ, queries, keys, extras, drop):
        if not self._divides(q_BNTH.shape[2]):  # other lengths than the model's context: on every device the whole text
            return backend.run(spec, q_BNTH, k_BKTH, v_BKTJ, queries, keys, extras, drop)
        check_features(self.strategy, asked(spec, queries, keys))
        heads = self._heads(spec, q_BNTH.shape[1])
        if self.strategy.heads:
            self._check_heads(heads, q_BNTH.shape[1])
        ways = math.prod(self.mesh.shape[axis] for axis in heads) * (self.parts if self.strategy.heads else 1)
        times = math.lcm(k_BKTH.shape[1], ways) // k_BKTH.shape[1]
        if times > 1:
            k_BKTH, v_BKTJ = (jnp.repeat(a, times, axis=1) for a in (k_BKTH, v_BKTJ))
        kept = drop(jnp.ones((*q_BNTH.shape[:3], k_BKTH.shape[2]), q_BNTH.dtype)) if dropping and spec.dropout else None
        within = (*heads, AXIS) if self.strategy.heads else heads
        rows = BATCH_AXES if len(q_BNTH) % batch_shards(self.mesh) == 0 else None
        arrays = PartitionSpec(rows, heads, AXIS)
        weights = PartitionSpec(rows, within, None if self.strategy.heads else AXIS)
        own = functools.partial(_own_heads, self.mesh, within, q_BNTH.shape[1])

        def local(q, k, v, queries, extras, kept):
            return self.strategy.run(self.parts, backend, spec, q, k, v, queries, own(extras), kept)

        return jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(arrays, arrays, arrays, _tokens_specs(queries, rows), _extras_specs(extras, within), weights),
            out_specs=arrays,
            check_vma=False,
        )(q_BNTH, k_BKTH, v_BKTJ, queries, extras, kept)

    def _heads(self, spec: AttentionSpec, heads: int) -> tuple[str, ...]:
        """The axes that split the heads of a call: none where their number does not divide, or one has to see all."""
        tensor = self.mesh.shape["tensor"]
        return () if spec.mixing or heads % tensor else ("tensor",)

    def _check_heads(self, axes: tuple[str, ...], heads: int) -> None:
        own = heads // math.prod(self.mesh.shape[axis] for axis in axes)
        if own % self.parts:
            of_device = f" that each part of mesh.tensor={self.mesh.shape['tensor']} has" if axes else ""
            fitting = ", ".join(str(n) for n in range(1, own + 1) if own % n == 0)
            raise UserError(
                f"the context strategy {self.strategy.name!r} gives each device a part of the heads, and mesh.{AXIS}="
                f"{self.parts} does not divide the {own} heads{of_device}",
                where=f"config.mesh.{AXIS}, config.model.heads",
                allowed=f"mesh.{AXIS} {fitting}; or the strategies ring and gather, which keep heads whole",
            )


def _tokens_specs(queries: Tokens, rows: tuple[str, ...] | None) -> Any:
    return jax.tree.map(lambda a: PartitionSpec(rows if len(a) > 1 else None, AXIS), queries)


def _extras_specs(extras: Extras, heads: tuple[str, ...]) -> Any:
    whole = jax.tree.map(lambda _: PartitionSpec(), extras)
    return whole if extras.sink_N is None else dataclasses.replace(whole, sink_N=PartitionSpec(heads))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeadsOf:
    """A position scheme's biases for the heads of a device, where axes of the mesh split them.

    Args:
      count: heads of a device.
      axes, sizes: that split the heads, the slowest first, and how many devices each has.
    """

    position: Any
    count: int = dataclasses.field(metadata={"static": True})
    axes: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    sizes: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def bias(self, queries: Tokens, keys: Tokens) -> jax.Array:
        bias_BNTS = self.position.bias(queries, keys)
        if bias_BNTS.shape[1] == 1:
            return bias_BNTS
        part = jnp.int32(0)
        for axis, size in zip(self.axes, self.sizes, strict=True):
            part = part * size + jax.lax.axis_index(axis)
        return jax.lax.dynamic_slice_in_dim(bias_BNTS, part * self.count, self.count, axis=1)


def _own_heads(mesh: Mesh, axes: tuple[str, ...], heads: int, extras: Extras) -> Extras:
    """The extras of the heads that a device has."""
    if not axes or extras.position is None:
        return extras
    sizes = tuple(mesh.shape[axis] for axis in axes)
    return dataclasses.replace(extras, position=HeadsOf(extras.position, heads // math.prod(sizes), axes, sizes))
