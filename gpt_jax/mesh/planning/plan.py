"""The plan of a run, without running it: parameters, FLOPs, memory per device, and the sharding of every array.

Everything is worked out from shapes: the step is compiled, nothing is allocated or trained.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from gpt_jax.config import Config, ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import rules
from gpt_jax.mesh.pipeline import Schedule, schedule_of
from gpt_jax.mesh.planning.chips import Chip
from gpt_jax.mesh.planning.fit import layout_of
from gpt_jax.mesh.planning.roofline import Estimate, Shape, estimate
from gpt_jax.mesh.planning.savings import Knob, knobs
from gpt_jax.mesh.planning.traffic import by_axes, collectives
from gpt_jax.mesh.spread import check as check_mesh
from gpt_jax.model import attend, flops, gpt
from gpt_jax.model.attend import auto

# Compiled in place of kernels of other platforms: it keeps no [B, N, T, S] matrix of scores, like them.
BLOCKWISE = "blockwise(block=64)"
WITH_SCORES = "xla"
THREADS = 2  # that XLA starts for a virtual device, or thereabouts


@dataclass(frozen=True)
class Memory:
    """Bytes of a device during a step, as the compiler reports them for the backend it compiled for.

    Args:
      arguments: the state and the batch, as passed in.
      outputs: the new state and the metrics.
      aliased: the part of the outputs that reuses the arguments' memory (donated state).
      temporaries: activations, gradients and scratch.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int

    @property
    def total(self) -> int:
        return self.arguments + self.outputs - self.aliased + self.temporaries


@dataclass(frozen=True)
class Plan:
    """The figures of a run. Sizes in bytes; FLOPs of one token's forward and backward pass, by convention.

    Args:
      mesh: axis -> devices along it.
      backend: the platform that the step was compiled for.
      compiled_attention: ``model.attend`` of the compiled step; another than the configuration's where the chip has
        backends that this platform lacks.
      trained: the number of parameters that have gradients.
      state: part of the state ("params", "opt", ...) -> (bytes in all, bytes per device).
      memory: of the compiled step; None where the backend does not report it.
      sent: (axes of the mesh, kind of collective) -> bytes that a device sends in a step, of the compiled step.
      schedule: of the pipeline; of one stage where there is none.
      estimate: of the time of a step on a chip that is known well enough.
      attention: (mechanism, the backend that computes it on the device planned for, or why that one cannot).
      table: every array of the state.
      knobs: what would lower the memory, the most useful first.
    """

    mesh: dict[str, int]
    backend: str
    compiled_attention: str
    parameters: flops.Parameters
    trained: int
    flops_per_token: dict[str, float]
    tokens_per_step: int
    steps: int
    state: dict[str, tuple[int, int]]
    memory: Memory | None
    sent: dict[tuple[tuple[str, ...], str], float]
    schedule: Schedule
    estimate: Estimate | None
    attention: tuple[tuple[str, str], ...]
    table: tuple[rules.Placement, ...]
    knobs: tuple[Knob, ...]


def virtual_devices(count: int) -> None:
    """Makes ``count`` virtual CPU devices. Call it before JAX is used.

    Raises:
      UserError: a count below 1, more than this machine has threads for, or JAX has its devices already.
    """
    if count < 1:
        raise UserError(f"{count} devices", where="--devices", allowed="1 or more")
    _check_threads(THREADS * count)
    jax.config.update("jax_platforms", "cpu")
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError as error:
        raise UserError(
            f"{count} virtual devices cannot be made: {error}", fix="start a new process for each plan"
        ) from error


def _check_threads(count: int) -> None:
    """Starts and ends so many threads: XLA would end the process if one of its own could not be started.

    Raises:
      UserError: the system refuses one of them.
    """
    done = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(count):
            started.append(threading.Thread(target=done.wait))
            started[-1].start()
    except RuntimeError as error:
        started.pop()
        raise UserError(
            f"this machine does not have {count} threads, {THREADS} for each device",
            where="--devices",
            allowed=f"about {len(started) // THREADS} now",
            fix="ulimit -u and -v, or the container's limits of processes and memory, say how many there may be",
        ) from error
    finally:
        done.set()
        for thread in started:
            thread.join()


def plan(
    config: Config,
    mesh: Mesh,
    state: Any,
    lower: Callable[[Mesh, str], jax.stages.Lowered],
    chip: Chip | None = None,
    trained: Any = None,
    options: int = 1,
) -> Plan:
    """Compiles the training step for a mesh and counts.

    Args:
      state: {"step", "params", "opt", ...} of ShapeDtypeStructs, with what else steps read.
      lower: the training step with a ``model.attend``, lowered for the shapes and shardings of a mesh.
      chip: to choose attention backends for; None = the mesh's devices.
      trained: those of the parameters that have gradients; None: of all.
      options: texts of an example, of which ``train.batch`` are a step.

    Raises:
      UserError: the batch does not divide over the mesh, or no sharding rule fits an array.
    """
    meshes.check_batch(mesh, config.train.batch, config.train.accumulate)
    check_mesh(mesh, config)
    table = rules.describe(state, mesh, config.mesh.rules, bool(config.model.scan))
    model, here = config.model, mesh.devices.flat[0].platform
    platform = chip.platform if chip else here
    mechanisms = _mechanisms(config, platform)
    compiled = model.attend if platform == here else _alike(mechanisms)
    program = lower(mesh, compiled).compile()
    memory = _memory(program.memory_analysis())
    return Plan(
        mesh=dict(mesh.shape),
        backend=here,
        compiled_attention=compiled,
        parameters=flops.parameters(model),
        trained=sum(leaf.size for leaf in jax.tree.leaves(state["params"] if trained is None else trained)),
        flops_per_token={c: flops.flops_per_token(model, model.context, c) for c in flops.CONVENTIONS},
        tokens_per_step=config.train.batch * options * model.context,
        steps=config.train.steps,
        state=_state_bytes(state, table),
        memory=memory,
        sent=by_axes(collectives(program.as_text() or "", mesh.shape)) if mesh.size > 1 else {},
        schedule=schedule_of(mesh, config),
        estimate=_estimate(config, mesh, chip, options),
        attention=tuple(dict.fromkeys((m.call, m.described(platform, model)) for m in mechanisms)),
        table=tuple(table),
        knobs=knobs(config, mesh, memory.arguments, memory.temporaries, chip) if memory else (),
    )


def _estimate(config: Config, mesh: Mesh, chip: Chip | None, options: int) -> Estimate | None:
    if chip is None or not chip.known:
        return None
    return estimate(Shape.of(config.model), layout_of(config, dict(mesh.shape), options), chip)


@dataclass(frozen=True)
class _Mechanism:
    """A mechanism of attention, and the backend of its softmax on a platform; None where it has no softmax."""

    call: str
    features: frozenset[str]
    backend: attend.Backend | None

    def described(self, platform: str, model: ModelConfig) -> str:
        if self.backend is None:
            return "a recurrence, no softmax"
        refusal = self.backend.refusal(self.features, platform, model.dtype, model.head_dim)
        return f"{self.backend.name} {refusal}" if refusal else self.backend.name


def _mechanisms(config: Config, platform: str) -> list[_Mechanism]:
    m, called = config.model, {"segments"} if config.data.pack == "segments" else set()
    model = nnx.eval_shape(lambda: gpt.GPT(replace(m, scan=True), nnx.Rngs(params=0)))
    found = []
    for j, call in enumerate(m.attentions):
        spec = getattr(model.blocks[str(j)].attention, "spec", None)
        features = frozenset() if spec is None else spec.features | called
        chosen = None
        if spec is not None and m.attend == "auto":
            chosen = auto.choose(platform, features, m.dtype, m.head_dim, m.context**2)
        elif spec is not None:
            chosen = attend.backend(m.attend)
        found.append(_Mechanism(call, features, chosen))
    return found


def _alike(mechanisms: list[_Mechanism]) -> str:
    """The backend of any platform whose memory is like that of the mechanisms' own backends."""
    softmaxes = [m for m in mechanisms if m.backend is not None]
    linear = all(m.backend and not m.backend.keeps_scores for m in softmaxes)
    able = all(not attend.backend(BLOCKWISE).refusal(m.features) for m in softmaxes)
    return BLOCKWISE if linear and able else WITH_SCORES


def _state_bytes(state: Any, table: list[rules.Placement]) -> dict[str, tuple[int, int]]:
    sums: dict[str, tuple[int, int]] = {}
    for row, leaf in zip(table, jax.tree.leaves(state), strict=True):
        part = row.path.split("/")[0]
        whole, piece = sums.get(part, (0, 0))
        sums[part] = (whole + leaf.size * leaf.dtype.itemsize, piece + row.bytes_per_device)
    return sums


def _memory(analysis: Any) -> Memory | None:
    if analysis is None:
        return None
    return Memory(
        arguments=analysis.argument_size_in_bytes,
        outputs=analysis.output_size_in_bytes,
        aliased=analysis.alias_size_in_bytes,
        temporaries=analysis.temp_size_in_bytes,
    )
