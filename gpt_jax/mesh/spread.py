"""How a mesh spreads a batch, and the work of a pass through the model."""

import dataclasses
import functools
from collections.abc import Callable

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gpt_jax.config import Config, MeshConfig
from gpt_jax.errors import UserError
from gpt_jax.mesh import experts, pipeline
from gpt_jax.mesh.context.check import check as check_context
from gpt_jax.mesh.context.texts import TextSplit
from gpt_jax.mesh.context_strategy import strategy_of
from gpt_jax.mesh.context_strategy.gather import gather
from gpt_jax.mesh.gathered import LayerWeights
from gpt_jax.mesh.mesh import BATCH_AXES, TOKEN_AXES, batch_shards, token_axes
from gpt_jax.mesh.vocabulary import filled
from gpt_jax.model.where import ALONE, Place, Spread

SPLITS_HEADS = "default"  # of ``mesh.rules``


@dataclasses.dataclass(frozen=True)
class BatchSplit:
    """How a mesh splits the tokens of a batch; not at all, unless it is given.

    Args:
      shards: parts of the rows.
      parts: of each row's tokens.
      stages: devices that compute the model one after another, and share the logits.
      place: a constraint on the residual stream, [B, T, D].
      spread: see ``GPT.hidden``.
      filled: parameters of a vocabulary, as the model reads them.
    """

    shards: int = 1
    parts: int = 1
    stages: int = 1
    place: Place = lambda x_BTD: x_BTD
    spread: Spread = ALONE
    filled: Callable[[dict, int], dict] = lambda params, vocab: params
    mesh: Mesh | None = None

    def by_device(self, a: jax.Array) -> jax.Array:
        """[B, T, …] as rows of one device each, [parts B, T / parts, …], which moves nothing between devices."""
        rows, length = a.shape[:2]
        if self.parts > 1 and length % self.parts == 0:
            a = a.reshape(rows, self.parts, -1, *a.shape[2:]).swapaxes(0, 1)
            a = a.reshape(self.parts * rows, -1, *a.shape[3:])
        return self._over_stages(a, rows)

    def whole_rows(self, a: jax.Array, rows: int) -> jax.Array:
        """The inverse of ``by_device``: [B, T, …]."""
        parts = len(a) // rows
        if parts == 1:
            return a
        return a.reshape(parts, rows, *a.shape[1:]).swapaxes(0, 1).reshape(rows, -1, *a.shape[2:])

    def pieces(self, rows: int, length: int) -> int:
        """Devices that the tokens of so many rows of ``length`` are split over, for their logits."""
        parts = 1 if length % self.parts else self.parts
        return self.shards * parts * (self.stages if self._shared(rows) else 1)

    def _shared(self, rows: int) -> bool:
        return self.stages > 1 and rows % (self.shards * self.stages) == 0

    def _over_stages(self, a: jax.Array, rows: int) -> jax.Array:
        """All stages have the last one's output: each takes some of the rows."""
        if self.mesh is None or not self._shared(rows):
            return a
        tokens = ("context",) if len(a) > rows else ()
        spec = PartitionSpec((*tokens, *BATCH_AXES, pipeline.AXIS))
        return jax.lax.with_sharding_constraint(a, NamedSharding(self.mesh, spec))


def split_of(mesh: Mesh, config: MeshConfig) -> BatchSplit:
    """How the mesh splits batches and work."""
    if mesh.size == 1:
        return BatchSplit()
    place = functools.partial(_place, mesh)
    spread = Spread(
        between=place,
        layer=LayerWeights(mesh, config.rules) if mesh.shape["fsdp"] > 1 else ALONE.layer,
        read=functools.partial(_read, mesh) if mesh.shape["tensor"] > 1 else ALONE.read,
        write=functools.partial(_write, mesh) if mesh.shape["tensor"] > 1 else ALONE.write,
        texts=TextSplit(mesh, strategy_of(config)) if mesh.shape["context"] > 1 else None,
        kernels=TextSplit(mesh, gather()),
        experts=experts.ExpertSplit(mesh),
        stages=pipeline.LayerSplit(mesh, config) if mesh.shape[pipeline.AXIS] > 1 else None,
    )
    fill = functools.partial(filled, mesh, config.rules)
    return BatchSplit(batch_shards(mesh), mesh.shape["context"], mesh.shape[pipeline.AXIS], place, spread, fill, mesh)


def check(mesh: Mesh, config: Config) -> None:
    """Refuses a model that the mesh cannot split as the configuration asks, before anything is compiled.

    Raises:
      UserError: which axis, and which sizes can be.
    """
    _check_heads(mesh, config)
    experts.check(mesh, config)
    pipeline.check(mesh, config)
    check_context(mesh, config)


def _check_heads(mesh: Mesh, config: Config) -> None:
    """A table of one's own may split what it likes. Fewer keys and values than devices stay whole on each."""
    parts, heads = mesh.shape["tensor"], config.model.heads
    if heads % parts and config.mesh.rules == SPLITS_HEADS:
        fitting = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
        raise UserError(
            f"mesh.tensor={parts} does not divide the {heads} heads of model.heads, and each device would compute them all",
            where="config.mesh.tensor, config.model.heads",
            allowed=f"mesh.tensor {fitting}",
        )


def _place(mesh: Mesh, x_BTD: jax.Array) -> jax.Array:
    # Else the compiler may split the stream as the parameters are, by channels, and keep every device's rows on all.
    return _split_by(mesh, TOKEN_AXES, x_BTD)


def _split_by(mesh: Mesh, axes: tuple[str, ...], x_BTD: jax.Array) -> jax.Array:
    tokens = tuple(axis for axis in token_axes(mesh, x_BTD.shape[1]) if axis in axes)
    return jax.lax.with_sharding_constraint(x_BTD, NamedSharding(mesh, PartitionSpec(BATCH_AXES, tokens)))


# Devices along tensor, which split the tokens of the stream, split the channels within a branch: it reads all of their
# tokens, and of what it adds each keeps some. Gradients go the other way. Else the compiler may gather weights.
def _read(mesh: Mesh, x_BTD: jax.Array) -> jax.Array:
    return _split_by(mesh, ("context",), _split_by(mesh, TOKEN_AXES, x_BTD))


def _write(mesh: Mesh, x_BTD: jax.Array) -> jax.Array:
    return _split_by(mesh, TOKEN_AXES, _split_by(mesh, ("context",), x_BTD))
