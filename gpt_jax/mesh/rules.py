"""How every array of a run is split over the mesh: tables of (path regex -> mesh axes), outside the model.

A row gives a mesh axis, several, or None for each trailing dimension of the arrays it is about. Of several the first is the
dimension's own; a further one is split there where the dimension that has it as its own does not divide. What is left in
front is the layer axis of stacked blocks, which is split over pipeline. The first row whose regex is found in an array's
path applies. The paths of an optimizer's statistics end in the path of their parameter, so the same rows serve them. What an
adapter trains is below the path of the weight that it is about, and is split as that weight's inputs or outputs are.

A table of your own is a function registered under "mesh.rules" and named in ``mesh.rules``:

    @register("mesh.rules", "mine")
    def mine():
        return ((r"mlp/up/w$", ("fsdp", "tensor")), *default())
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.mesh.mesh import AXES
from gpt_jax.model.init import LORA_A, LORA_B, MAGNITUDE
from gpt_jax.registry import register

Axes = tuple[str | tuple[str, ...] | None, ...]
Table = tuple[tuple[str, Axes], ...]


@register("mesh.rules", "default")
def default() -> Table:
    """Channels over fsdp (ZeRO-3; Rajbhandari et al. 2020), heads, mlp channels and vocabulary over tensor (Megatron;
    Shoeybi et al. 2019)."""
    return (
        (r"embed/tokens/w$", ("tensor", ("fsdp", "tensor"))),  # [V, D]
        (r"embed/position/w$", (None, "fsdp")),  # [T, D]
        (r"attention/position/w$", (None, None)),  # [buckets, N]
        (r"attention/(down|q_down|k_rope)/w$", ("fsdp", None)),  # [D, rank]
        (r"attention/(write|forget)/w$", ("fsdp", None)),  # [D, N]
        (r"attention/(q|k|v|gate|q_rope)/w$", ("fsdp", "tensor", None)),  # [D or rank, N, H]
        (r"attention/(q|k|v|gate|q_rope)/bias$", ("tensor", None)),  # [N, H]
        (r"attention/out/w$", ("tensor", None, "fsdp")),  # [N, H, D]
        (r"(mlp|shared)/(up|gate)/w$", ("fsdp", "tensor")),  # [D, F]
        (r"(mlp|shared)/(up|gate)/bias$", ("tensor",)),  # [F]
        (r"(mlp|shared)/down/w$", ("tensor", "fsdp")),  # [F, D]
        (r"router/w$", ("fsdp", None)),  # [D, E]
        (r"experts/(up|gate)/w$", ("expert", "fsdp", "tensor")),  # [E, D, F]
        (r"experts/(up|gate)/bias$", ("expert", "tensor")),  # [E, F]
        (r"experts/down/w$", ("expert", "tensor", "fsdp")),  # [E, F, D]
        (r"experts/down/bias$", ("expert", None)),  # [E, D]
        (r"readout/w$", (("fsdp", "tensor"), "tensor")),  # [D, V]
        (r"(^|/)(scale|bias|alpha)$", (None,)),  # norms, and biases that join the residual stream: [D]
        (r"attention/(lambdas|before|after)$", (None, None)),
        (r"attention/(temperature|sink|head_scale|value_mix|log_rate|step_bias)$", (None,)),  # [N], or two factors
        (r"residual/skip$|mlp/balance$", (None,)),
        (r"position/(up|up_bias|slope|length)$", ()),  # FIRE's network
        (r"position/down$", (None, None)),
        (r"(^|/)heads/", ()),  # an objective's own
        (r"(^|/)ns_coeffs$", (None,)),  # muon's polynomial
    )


@register("mesh.rules", "replicated")
def replicated() -> Table:
    """Every array is replicated; only the batch is split."""
    return ((r"", ()),)


@dataclass(frozen=True)
class Placement:
    """How one array is sharded.

    Args:
      path: its keys joined by "/".
      spec: mesh axes per dimension.
      bytes_per_device: of the largest piece.
      note: what the row asked for and did not get, and why; empty where it got all.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    spec: PartitionSpec
    bytes_per_device: int
    note: str


def shardings(tree: Any, mesh: Mesh, rules: str, scanned: bool) -> Any:
    """A NamedSharding for each array (or ShapeDtypeStruct) of a tree of parameters, optimizer state, or both.

    Scalars are replicated. So is an array of fewer dimensions than its row names (Adafactor's row and column means),
    and a dimension that does not divide over the axes its row gives; ``describe`` lists these.

    Args:
      rules: the name of a table, ``config.mesh.rules``.
      scanned: whether arrays below a key "blocks" carry a leading layer axis.

    Raises:
      UserError: no row fits an array, or a row names an axis that a mesh has not.
    """
    table = _compile(rules)
    paths_leaves, treedef = jax.tree_util.tree_flatten_with_path(tree)
    specs = [_place(_path(keys), leaf.shape, mesh, table, rules, scanned)[0] for keys, leaf in paths_leaves]
    return jax.tree_util.tree_unflatten(treedef, [NamedSharding(mesh, spec) for spec in specs])


def describe(tree: Any, mesh: Mesh, rules: str, scanned: bool) -> list[Placement]:
    """The placement of each array of a tree, as ``shardings`` gives it. Arguments and errors as there."""
    table = _compile(rules)
    rows = []
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        path = _path(keys)
        spec, note = _place(path, leaf.shape, mesh, table, rules, scanned)
        piece = NamedSharding(mesh, spec).shard_shape(leaf.shape)
        size = math.prod(piece) * leaf.dtype.itemsize
        rows.append(Placement(path, tuple(leaf.shape), str(leaf.dtype), spec, size, note))
    return rows


def _path(keys: tuple) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _compile(rules: str) -> list[tuple[re.Pattern, Axes]]:
    table = registry.build("mesh.rules", rules, where="config.mesh.rules")
    for pattern, axes in table:
        unknown = [axis for names in axes for axis in _names(names) if axis not in AXES]
        if unknown:
            raise UserError(
                f"the row {pattern!r} of the sharding rules {rules!r} names the axis {unknown[0]!r}",
                where="config.mesh.rules",
                allowed=", ".join(AXES) + ", None",
            )
    return [(re.compile(pattern), tuple(axes)) for pattern, axes in table]


def _place(path: str, shape: tuple, mesh: Mesh, table: list, rules: str, scanned: bool) -> tuple[PartitionSpec, str]:
    if not shape:
        return PartitionSpec(), ""
    stacked = scanned and "blocks" in path.split("/")
    axes = _axes(path, len(shape) - stacked, table)
    if axes is None:
        raise UserError(
            f"no row of the sharding rules {rules!r} fits {path!r} of shape {tuple(shape)}",
            where="config.mesh.rules",
            fix="add a row to gpt_jax/mesh/rules.py, or register a table of your own and name it in mesh.rules",
        )
    if len(shape) < len(axes) + stacked:
        asked = any(mesh.shape[axis] > 1 for names in axes for axis in _names(names))
        return PartitionSpec(), f"replicated: {len(shape)} dimensions, its row has {len(axes)}" if asked else ""
    leading = len(shape) - len(axes)
    split, notes = _trailing(shape[leading:], axes, mesh)
    spec = [*_leading(shape[:leading], mesh, stacked), *split]
    while spec and spec[-1] is None:
        spec.pop()
    return PartitionSpec(*spec), "; ".join(notes)


def _trailing(shape: tuple, axes: Axes, mesh: Mesh) -> tuple[list[str | tuple[str, ...] | None], list[str]]:
    """Of the dimensions that a row names: their axes, and which do not divide."""
    taken: list[list[str]] = [[] for _ in shape]
    notes = []
    for rank in range(max(map(len, map(_names, axes)), default=0)):
        for size, names, mine in zip(shape, map(_names, axes), taken, strict=True):
            axis = names[rank] if rank < len(names) else None
            if axis is None or mesh.shape[axis] == 1 or any(axis in others for others in taken):
                continue
            if size % math.prod(mesh.shape[name] for name in (*mine, axis)):
                notes.append(f"{size} does not divide over {axis}={mesh.shape[axis]}")
            else:
                mine.append(axis)
    return [tuple(mine) if len(mine) > 1 else next(iter(mine), None) for mine in taken], notes


def _names(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (axes,) if isinstance(axes, str) else axes or ()


def _leading(shape: tuple, mesh: Mesh, stacked: bool) -> list[str | None]:
    """Of the dimensions that no row names: the layers of a stack are split."""
    stages = mesh.shape["pipeline"]
    split = stacked and len(shape) > 0 and stages > 1 and shape[0] % stages == 0
    return ["pipeline" if split and i == 0 else None for i in range(len(shape))]


def _axes(path: str, rank: int, table: list) -> Axes | None:
    """The row of an array; of an adapter's, that of its weight, with the inputs, the outputs or both replaced."""
    row = next((axes for pattern, axes in table if pattern.search(path)), None)
    weight, _, name = path.rpartition("/")
    if row is not None or name not in (LORA_A, LORA_B, MAGNITUDE):
        return row
    of_weight = next((axes for pattern, axes in table if pattern.search(weight)), None)
    if of_weight is None:
        return None
    experts = int("experts" in weight.split("/"))
    lead, own = of_weight[:experts], of_weight[experts:]
    if name == LORA_A:  # [*experts, *inputs, rank]
        return (*lead, *own[: rank - experts - 1], None)
    outputs = own[len(own) - (rank - experts - (name == LORA_B)) :]
    return (*lead, None, *outputs) if name == LORA_B else (*lead, *outputs)
