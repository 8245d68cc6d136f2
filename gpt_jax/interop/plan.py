"""A table of rows applied to one model: every tensor of the directory, and the parameters it fills or is made of."""

from dataclasses import dataclass

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.interop.rows import Row, sizes_of


@dataclass(frozen=True)
class Part:
    """The place of a parameter in the stacked layout.

    Args:
      path: its path.
      layer: index along its leading axis of layers; None for parameters outside the blocks.
    """

    path: str
    layer: int | None


@dataclass(frozen=True)
class Tensor:
    """One tensor of the directory: its name, its row, and the parameters in it."""

    name: str
    row: Row
    parts: tuple[Part, ...]


def tensors(rows: tuple[Row, ...], model: ModelConfig, known: dict[str, tuple[int, ...]]) -> list[Tensor]:
    """The tensors that hold the parameters ``known`` (path -> shape, in the stacked layout).

    Raises:
      UserError: a parameter that no row is about, or of another shape than its row says.
    """
    sizes, found, covered = sizes_of(model), [], set()
    for row in rows:
        layers = range(model.layers) if "{i}" in row.theirs else [None]
        for i in layers:
            parts = tuple(_part(path, i, len(model.attentions)) for path in row.ours)
            if not all(part.path in known for part in parts):
                continue
            for part in parts:
                _check_shape(part, known[part.path], row.our_shape(sizes))
            covered |= {part.path for part in parts}
            found.append(Tensor(row.theirs.format(i=i), row, parts))
    foreign = sorted(known.keys() - covered)
    if foreign:
        raise UserError(
            f"the family has no tensor for the parameter {foreign[0]}", where=knob_of(foreign[0]), fix="another family"
        )
    return found


def knob_of(path: str) -> str:
    """The setting that a parameter comes from."""
    places = {"attention": "attention", "mlp": "mlp", "position": "position", "norm": "norm", "readout": "tied"}
    return "config.model." + next((knob for name, knob in places.items() if name in path), "block")


def _part(path: str, layer: int | None, period: int) -> Part:
    if layer is None:
        return Part(path, None)
    return Part(path.format(i=layer % period), layer // period)


def _check_shape(part: Part, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    own = shape if part.layer is None else shape[1:]
    if own != wanted:
        raise UserError(
            f"the parameter {part.path} has shape {own}, the family's has {wanted}",
            where=knob_of(part.path),
            fix="another family",
        )
