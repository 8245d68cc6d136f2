"""The weights of a layer as its products read them: whole along fsdp, and only while they are read.

Left to itself, the compiler may move activations in place of weights, where it counts that these are larger.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gpt_jax.mesh import rules

AXIS = "fsdp"


@dataclasses.dataclass(frozen=True)
class LayerWeights:
    """Gathers the parameters of a layer, matrices in the type that they are multiplied in, and splits their gradients again.

    Args:
      table: the sharding rules, ``config.mesh.rules``.
    """

    mesh: Mesh
    table: str

    def __call__(self, layer: Any, dtype: jnp.dtype) -> Any:
        graphdef, state = nnx.split(layer)
        params = {"blocks": {"0": nnx.to_pure_dict(state)}}
        stored = rules.shardings(params, self.mesh, self.table, scanned=False)

        def gathered(keys: tuple, w: jax.Array, sharding: NamedSharding) -> jax.Array:
            return _gathered(w.astype(dtype) if keys[-1].key == "w" else w, sharding)

        read = jax.tree_util.tree_map_with_path(gathered, params, stored)
        return nnx.merge(graphdef, read["blocks"]["0"])


def _whole(sharding: NamedSharding) -> NamedSharding:
    return NamedSharding(sharding.mesh, PartitionSpec(*(None if axis == AXIS else axis for axis in sharding.spec)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gathered(w: jax.Array, stored: NamedSharding) -> jax.Array:
    # First as it is stored: else the compiler gathers what is kept for the backward pass, too.
    constrained = jax.lax.with_sharding_constraint
    return constrained(constrained(w, stored), _whole(stored))


# A gradient is not constrained to be whole first: it would be added up whole over all devices that have a part of the batch.
_gathered.defvjp(
    lambda w, stored: (_gathered(w, stored), None),
    lambda stored, _, g: (jax.lax.with_sharding_constraint(g, stored),),
)
