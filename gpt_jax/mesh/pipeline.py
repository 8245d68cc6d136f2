"""Layers split over devices: the mesh axis "pipeline".

Device s has a run of successive layers, a stage. A batch is cut into micro-batches; in every tick each stage computes one of
them and hands it to the next (Huang et al. 2019, "GPipe"). With R rounds a device has R shorter runs, and micro-batches go
round R times, which makes the wait at both ends shorter (Narayanan et al. 2021, "interleaved"). It is one program: the
stages are an axis of its arrays, split over the devices.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gpt_jax.config import Config, MeshConfig
from gpt_jax.errors import UserError
from gpt_jax.mesh.mesh import BATCH_AXES, batch_shards, token_axes
from gpt_jax.model.mlp import moe
from gpt_jax.model.where import Where

AXIS = "pipeline"
SIZE = f"config.mesh.{AXIS}"


def check(mesh: Mesh, config: Config) -> None:
    """Refuses a model whose layers do not divide over the mesh.

    Raises:
      UserError: which number does not, and those that do; or layers that are not stacked.
    """
    stages, rounds, model = mesh.shape[AXIS], config.mesh.rounds, config.model
    if stages == 1:
        return
    if not model.scan:
        raise UserError(
            f"mesh.{AXIS}={stages} splits stacked layers, and model.scan=False keeps each by itself",
            where=f"{SIZE}, config.model.scan",
            fix="--config.model.scan=True",
        )
    cycles = model.layers // len(model.attentions)
    if cycles % (stages * rounds):
        of = "layers" if len(model.attentions) == 1 else f"cycles of {len(model.attentions)} layers"
        fitting = (
            ", ".join(str(n) for n in range(1, cycles + 1) if cycles % (n * rounds) == 0) or "1, with other mesh.rounds"
        )
        raise UserError(
            f"{cycles} {of} do not divide into {stages} stages" + (f" of {rounds} rounds each" if rounds > 1 else ""),
            where=f"{SIZE}, config.model.layers",
            allowed=f"mesh.{AXIS} {fitting}",
        )
    rows = _rows(mesh, config)
    count = microbatches(config.mesh, stages, rows)
    if not cuts(config.mesh, stages, rows):
        fitting = ", ".join(str(n) for n in range(1, rows + 1) if rows % n == 0 and (rounds == 1 or n >= stages))
        raise UserError(
            f"the {rows} rows that a pipeline has at a time do not divide into {count} micro-batches"
            + (f", of which {rounds} rounds need {stages} or more" if rounds > 1 else ""),
            where="config.mesh.microbatches, config.train.batch",
            allowed=f"mesh.microbatches {fitting}" if fitting else f"a train.batch that gives {stages} rows or more",
        )


def microbatches(config: MeshConfig, stages: int, rows: int) -> int:
    """How many a pipeline cuts so many rows into: as asked, else the least that fill it for two thirds, or all."""
    enough = [n for n in range(1, rows + 1) if rows % n == 0 and n >= 2 * stages]
    return config.microbatches or min(enough, default=rows)


def cuts(config: MeshConfig, stages: int, rows: int) -> bool:
    """Whether so many rows divide into the micro-batches, and these are enough for the rounds."""
    count = microbatches(config, stages, rows)
    return rows % count == 0 and (config.rounds == 1 or count >= stages)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What a pipeline does in a pass: R rounds of M micro-batches through its stages."""

    stages: int
    rounds: int
    count: int

    @property
    def ticks(self) -> int:
        return self.rounds * self.count + self.stages - 1

    @property
    def bubble(self) -> float:
        """The share of a pass that a stage waits, in which it computes what nobody reads."""
        return (self.stages - 1) / self.ticks


def schedule_of(mesh: Mesh, config: Config) -> Schedule:
    """Of a training step."""
    stages = mesh.shape[AXIS]
    return Schedule(stages, config.mesh.rounds, microbatches(config.mesh, stages, _rows(mesh, config)))


def _rows(mesh: Mesh, config: Config) -> int:
    """Of a micro-batch of the step, a device's."""
    return config.train.batch // config.train.accumulate // batch_shards(mesh)


@dataclasses.dataclass(frozen=True)
class LayerSplit:
    """See ``where.Stages``."""

    mesh: Mesh
    config: MeshConfig

    @property
    def stages(self) -> int:
        return self.mesh.shape[AXIS]

    def run(self, layers: Callable, x_BTD: jax.Array, where: Where, stack: Any) -> tuple[jax.Array, None, dict]:
        shards = batch_shards(self.mesh)
        rows = len(x_BTD) // shards
        count = microbatches(self.config, self.stages, rows)
        if rows % count:  # another batch than training's, as an evaluation may have
            count = 1
        rounds = self.config.rounds if count >= self.stages else 1
        return _Pipe(self, layers, Schedule(self.stages, rounds, count)).run(x_BTD, where, stack)

    def placed(self, a: jax.Array, axis: int) -> jax.Array:
        """Constrained to have its axis of stages, of this number, split over them."""
        spec = (*(PartitionSpec.UNCONSTRAINED for _ in range(axis)), AXIS)
        rest = (PartitionSpec.UNCONSTRAINED for _ in range(a.ndim - len(spec)))
        return jax.lax.with_sharding_constraint(a, NamedSharding(self.mesh, PartitionSpec(*spec, *rest)))

    def stream(self, a: jax.Array) -> jax.Array:
        """Constrained: micro-batches [stages, …, b, T, D], their rows split as a batch's are."""
        lead = (None,) * (a.ndim - 4)
        spec = PartitionSpec(AXIS, *lead, BATCH_AXES, token_axes(self.mesh, a.shape[-2]))
        return jax.lax.with_sharding_constraint(a, NamedSharding(self.mesh, spec))


@dataclasses.dataclass(frozen=True)
class _Pipe:
    split: LayerSplit
    layers: Callable
    schedule: Schedule

    @property
    def count(self) -> int:
        return self.schedule.count

    def run(self, x_BTD, where, stack):
        stages, count = self.schedule.stages, self.count
        x_MbTD, where = self._cut(x_BTD), where.over_rows(self._cut)
        stack = jax.tree.map(self._by_stage, stack)
        first_S = jnp.arange(stages) == 0
        entering = functools.partial(_if_first, first_S)

        def tick(carry, t):
            x_SbTD, back_SMbTD = carry
            turn_S = t - jnp.arange(stages)
            y_SbTD, report = self._compute(x_SbTD, where, stack, turn_S)
            on_SbTD = _handed_on(self.split.stream(y_SbTD))
            # What the last stage has computed has come to the first; other stages keep what nobody reads.
            done = (t - (stages - 1)) % count
            back_SMbTD = jax.lax.dynamic_update_index_in_dim(back_SMbTD, on_SbTD, done, axis=1)
            m = (t + 1) % count
            fresh_bTD = jax.lax.dynamic_index_in_dim(x_MbTD, m, keepdims=False)
            again_SbTD = jax.lax.dynamic_index_in_dim(back_SMbTD, m, axis=1, keepdims=False)
            x_SbTD = entering(jnp.where(t + 1 < count, fresh_bTD, again_SbTD), on_SbTD)
            return (self.split.stream(x_SbTD), self.split.stream(back_SMbTD)), report

        # Stages that wait compute with real numbers, of which nothing is read.
        x_SbTD = self.split.stream(jnp.broadcast_to(x_MbTD[0], (stages, *x_MbTD.shape[1:])))
        back_SMbTD = self.split.stream(jnp.broadcast_to(x_MbTD, (stages, *x_MbTD.shape)))
        (_, back_SMbTD), reports = jax.lax.scan(tick, (x_SbTD, back_SMbTD), jnp.arange(self.schedule.ticks))
        y_MbTD = entering(back_SMbTD, jnp.zeros_like(back_SMbTD)).sum(0)
        return self._joined(y_MbTD), None, self._of_layers(reports)

    def _compute(self, x_SbTD, where, stack, turn_S):
        """What each stage makes of its micro-batch: at turn j, number j mod M in round j / M."""
        micro_S = turn_S % self.count
        round_S = jnp.clip(turn_S // self.count, 0, self.schedule.rounds - 1)

        def stage(x_bTD, micro, turn_round, stack):
            own = where.over_rows(lambda a: _member(a, micro))
            layers = jax.tree.map(lambda leaf: _member(leaf, turn_round), stack)
            x_bTD, _, report = self.layers(x_bTD, own, layers)
            return x_bTD, report

        # The layers of a round are chosen anew in the backward pass: kept, there would be a copy of them for every tick.
        stage = jax.checkpoint(stage) if self.schedule.rounds > 1 else stage
        return jax.vmap(stage, in_axes=(0, 0, 0, 1), spmd_axis_name=AXIS)(x_SbTD, micro_S, round_S, stack)

    def _cut(self, a):
        """[B, …] -> [M, B / M, …], each with rows from every shard."""
        return a.reshape(len(a) // self.count, self.count, *a.shape[1:]).swapaxes(0, 1)

    def _joined(self, a):
        return a.swapaxes(0, 1).reshape(-1, *a.shape[2:])

    def _by_stage(self, leaf):
        """[L, …] -> [rounds, stages, L / (rounds stages), …]."""
        return self.split.placed(leaf.reshape(self.schedule.rounds, self.schedule.stages, -1, *leaf.shape[1:]), 1)

    def _of_layers(self, reports):
        """Of every layer the report of all micro-batches, from those of every tick and stage."""
        if not reports:
            return {}
        r, s, m = jnp.ix_(*(jnp.arange(n) for n in (self.schedule.rounds, self.schedule.stages, self.count)))
        found = jax.tree.map(lambda a: a[r * self.count + m + s, s], reports)  # [R, S, M, layers, …]
        whole = moe.joined(jax.tree.map(lambda a: jnp.moveaxis(a, 2, 0), found))
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[3:]), whole)


@jax.custom_vjp
def _member(a, i):
    """a[i]. Of several stages that choose each its own, autodiff would make a scatter that XLA's GPU compiler refuses
    (jaxlib 0.10.2: "Repeated dimensions not allowed in scatter_dims_to_operand_dims")."""
    return jax.lax.dynamic_index_in_dim(a, i, keepdims=False)


def _member_backward(saved, g):
    i, like = saved
    return jnp.where(jnp.arange(len(like)).reshape(-1, *(1 for _ in g.shape)) == i, g, 0), None


_member.defvjp(lambda a, i: (_member(a, i), (i, jnp.zeros(len(a)))), _member_backward)


@jax.custom_vjp
def _handed_on(y_SbTD):
    """Each stage's to the next. Autodiff would send twice for it on the way back."""
    return jnp.roll(y_SbTD, 1, axis=0)


_handed_on.defvjp(lambda y_SbTD: (_handed_on(y_SbTD), None), lambda _, dy_SbTD: (jnp.roll(dy_SbTD, -1, axis=0),))


def _if_first(first_S, a, b):
    return jnp.where(first_S.reshape(-1, *(1 for _ in range(b.ndim - 1))), a, b)
