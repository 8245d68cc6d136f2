"""Experts split over devices: the mesh axis "expert", which splits the rows of a batch too.

Dropless, every device sends each of its tokens to the devices that have the experts it chose, which send back what these
make of it: two all-to-alls of buffers for the most tokens that there can be, since how many there are is known at run time
only. With a capacity buffers have a fixed size anyway.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.mesh.mesh import BATCH_AXES
from gpt_jax.model.mlp import moe
from gpt_jax.model.mlp.experts import limited

AXIS = "expert"
SIZE = f"config.mesh.{AXIS}"


def check(mesh: Mesh, config: Config) -> None:
    """Refuses a model whose experts do not divide over the mesh.

    Raises:
      UserError: it has none, or not a multiple of the axis.
    """
    parts, experts = mesh.shape[AXIS], moe.settings(config.model.mlp).experts
    if parts > 1 and experts == 1:
        raise UserError(
            f"mesh.{AXIS}={parts} splits experts, and model.mlp {config.model.mlp!r} has none",
            where=f"{SIZE}, config.model.mlp",
            fix=f"set model.mlp to moe, or mesh.{AXIS} to 1 and mesh.data or mesh.fsdp to more",
        )
    if experts % parts:
        fitting = ", ".join(str(n) for n in range(1, experts + 1) if experts % n == 0)
        raise UserError(
            f"mesh.{AXIS}={parts} does not divide the {experts} experts of model.mlp {config.model.mlp!r}",
            where=f"{SIZE}, config.model.mlp",
            allowed=f"mesh.{AXIS} {fitting}",
        )


@dataclasses.dataclass(frozen=True)
class ExpertSplit:
    """See ``where.Experts``."""

    mesh: Mesh

    def dropless(self, experts: Any, x_BTD: jax.Array, chosen_BTK: jax.Array, weight_BTK: jax.Array) -> jax.Array:
        """Tokens are sorted and sent by the device that has them, so that no device needs to see all."""
        parts = self.mesh.shape[AXIS]

        def local(total, experts, x_BTD, chosen_BTK, weight_BTK):
            x_XD, chosen_XK, weight_XK = (a.reshape(-1, a.shape[-1]) for a in (x_BTD, chosen_BTK, weight_BTK))
            return _through(experts, parts, x_XD, chosen_XK, weight_XK, total).reshape(x_BTD.shape)

        tokens = "context" if x_BTD.shape[1] % self.mesh.shape["context"] == 0 else None
        return self._by_device(local, PartitionSpec(BATCH_AXES, tokens), experts, x_BTD, chosen_BTK, weight_BTK)

    def limited(
        self, experts: Any, x_BTD: jax.Array, chosen_BTK: jax.Array, weight_BTK: jax.Array, room: int
    ) -> tuple[jax.Array, jax.Array]:
        """Devices along context compute the same: a capacity is one of whole rows."""
        parts = self.mesh.shape[AXIS]

        def local(total, experts, x_BTD, chosen_BTK, weight_BTK):
            def compute(x_BECD):
                x_BECD = jax.lax.all_to_all(x_BECD, AXIS, split_axis=1, concat_axis=0, tiled=True)
                y_BECD = experts.padded(x_BECD, total)
                return jax.lax.all_to_all(y_BECD, AXIS, split_axis=0, concat_axis=1, tiled=True)

            return limited(compute, parts * len(experts.up.w), x_BTD, chosen_BTK, weight_BTK, room)

        return self._by_device(local, PartitionSpec(BATCH_AXES), experts, x_BTD, chosen_BTK, weight_BTK)

    def _by_device(self, local: Callable, rows: PartitionSpec, experts: Any, *arrays: jax.Array) -> Any:
        """``local(total, experts, *arrays)`` of the experts and the rows that a device has."""
        weights, split = self._specs(experts)
        total = functools.partial(jax.lax.psum, axis_name="tensor") if split else None
        return jax.shard_map(
            functools.partial(local, total),
            mesh=self.mesh,
            in_specs=(weights, *(rows for _ in arrays)),
            out_specs=rows,
            check_vma=False,
        )(experts, *arrays)

    def _specs(self, experts: Any) -> tuple[Any, bool]:
        """How the experts' parameters are given to devices, and whether tensor splits their hidden channels."""
        width = experts.up.w.shape[-1]
        split = width % self.mesh.shape["tensor"] == 0 and self.mesh.shape["tensor"] > 1
        hidden = "tensor" if split else None

        def of(path, leaf):
            down = any(getattr(key, "key", getattr(key, "name", None)) == "down" for key in path)
            if leaf.ndim == 2:
                return PartitionSpec(AXIS, None if down else hidden)
            return PartitionSpec(AXIS, hidden, None) if down else PartitionSpec(AXIS, None, hidden)

        return jax.tree_util.tree_map_with_path(of, experts), split


def _through(experts, parts, x_XD, chosen_XK, weight_XK, total):
    """``Experts.dropless`` of a device's tokens, by the experts of all ``parts`` devices along the axis."""
    if parts == 1:
        return experts.dropless(x_XD, chosen_XK, weight_XK, total)
    (x, k), own = chosen_XK.shape, experts.up.w.shape[0]
    room = x * min(k, own)  # most choices of a device's tokens that another one's experts can have
    chosen_R = chosen_XK.reshape(-1)
    to_R = chosen_R // own
    asked_RP = jax.nn.one_hot(to_R, parts, dtype=jnp.int32)
    place_R = ((jnp.cumsum(asked_RP, axis=0) - 1) * asked_RP).sum(-1)
    slot_R = to_R * room + place_R

    def sent(values_R, nothing):
        """[R, …] in the slots of a buffer [parts room, …], exchanged."""
        buffer = jnp.full((parts * room, *values_R.shape[1:]), nothing, values_R.dtype)
        return exchanged(buffer.at[slot_R].set(values_R, unique_indices=True))

    def exchanged(buffer):
        return jax.lax.all_to_all(buffer, AXIS, split_axis=0, concat_axis=0, tiled=True)

    y_SD = experts.dropless(
        sent(jnp.repeat(x_XD, k, axis=0), 0),
        sent(chosen_R % own, own)[:, None],
        sent(weight_XK.reshape(-1), 0)[:, None],
        total,
    )
    return exchanged(y_SD)[slot_R].reshape(x, k, -1).sum(1)
