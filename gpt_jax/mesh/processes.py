"""Several processes as one program: who they are, found in the environment, and how they join."""

import glob
import itertools
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gpt_jax import backend
from gpt_jax.config import MeshConfig
from gpt_jax.errors import UserError
from gpt_jax.mesh import joining

EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
START_TIMEOUT = 300  # seconds: JAX's own
GPUS = "/dev/nvidia[0-9]*"  # the files of NVIDIA's devices, one each


@dataclass(frozen=True)
class Launch:
    """This process among the others of its launch.

    Args:
      count, rank: processes, and which of them this is.
      coordinator: host:port of process 0; None leaves it to JAX's reading of the launcher's variables.
      local_devices: GPUs this process takes among those it sees; () = all of them, None = JAX_LOCAL_DEVICE_IDS.
    """

    count: int
    rank: int
    coordinator: str | None
    local_devices: tuple[int, ...] | None


def find_launch(env: Mapping[str, str]) -> Launch | None:
    """What the environment says about the other processes of this launch; None where there are none.

    In order: JAX_COORDINATOR_ADDRESS with JAX_NUM_PROCESSES and JAX_PROCESS_ID; a SLURM step (srun) of several tasks;
    Open MPI with several ranks. A batch script outside srun and a step of one task run alone, though their environment
    names a cluster.

    Raises:
      UserError: one of the explicit variables is missing or no number that makes sense; Open MPI names no coordinator.
    """
    if "JAX_NUM_PROCESSES" in env or "JAX_PROCESS_ID" in env:
        return _explicit(env)
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return _slurm(env)
    if int(env.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return _open_mpi(env)
    if "JAX_COORDINATOR_ADDRESS" in env:
        return _explicit(env)
    return None


def start_processes(limits: MeshConfig | None = None) -> None:
    """Joins this process to the others of its launch, if it has any, and sets how CPUs run programs. Call it before
    anything asks JAX for devices.

    Args:
      limits: has the seconds to wait for others; None: JAX's own.

    Raises:
      UserError: the environment contradicts itself, JAX is in use already, process 0 cannot have its port, or there are no
        devices. Where the others do not come in time, the process ends with the code of such an error.
    """
    backend.run_where_called()
    backend.let_devices_wait()
    launch = find_launch(os.environ)
    if launch is not None and not jax.distributed.is_initialized():
        backend.check_flags()
        _join(launch, limits)
    backend.first_contact()


def _join(launch: Launch, limits: MeshConfig | None) -> None:
    if launch.coordinator is not None:
        joining.check(launch.coordinator, launch.rank)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    seconds = START_TIMEOUT if limits is None else limits.start_timeout
    who, devices = f"process {launch.rank} of {launch.count}", launch.local_devices
    try:
        with joining.deadline(seconds, who, launch.coordinator):
            jax.distributed.initialize(
                launch.coordinator,
                launch.count,
                launch.rank,
                None if devices is None else list(devices),
                initialization_timeout=seconds + joining.LONGER,
                **({} if limits is None else _waiting(limits)),
            )
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"{who} could not join the others: {error}",
            where=joining.place(launch.coordinator),
            fix=joining.FIX,
        ) from error
    except RuntimeError as error:
        raise UserError(
            f"the processes must join before JAX is used: {error}",
            fix="leave jax.devices() and arrays out of config files and of whatever is imported before",
        ) from error


def _waiting(limits: MeshConfig) -> dict[str, int]:
    """How long JAX waits for others that have joined: arguments of ``jax.distributed.initialize``."""
    return {
        "heartbeat_timeout_seconds": limits.heartbeat_timeout,
        "shutdown_timeout_seconds": limits.heartbeat_timeout,
    }


def open_connections(mesh: Mesh) -> None:
    """Connects processes on CPUs now for every group of devices that collectives on this mesh can name.

    Gloo gives up on a partner who comes more than 30 s late to the first collective of their group, while later ones
    wait. Reading data or compiling the first step may take one process that much longer than another.
    """
    if jax.process_count() == 1 or mesh.devices.flat[0].platform != "cpu":
        return
    from jax.experimental import multihost_utils

    split = [axis for axis, size in mesh.shape.items() if size > 1]
    groups = [group for n in range(1, len(split) + 1) for group in itertools.combinations(split, n)]
    everywhere = PartitionSpec(mesh.axis_names)
    ones = jax.make_array_from_callback(
        (mesh.size,), NamedSharding(mesh, everywhere), lambda index: np.ones(mesh.size, np.float32)[index]
    )
    add = jax.shard_map(
        lambda x: [jax.lax.psum(x, group) for group in groups],
        mesh=mesh,
        in_specs=everywhere,
        out_specs=everywhere,
    )
    jax.block_until_ready(jax.jit(add)(ones))
    multihost_utils.process_allgather(np.int32(0))  # its groups are of one device per process
    multihost_utils.broadcast_one_to_all(np.int32(0))


def _explicit(env: Mapping[str, str]) -> Launch | None:
    missing = [name for name in EXPLICIT if name not in env]
    if missing:
        raise UserError(
            f"{', '.join(missing)} not set, though {', '.join(n for n in EXPLICIT if n in env)} is",
            where="environment",
            allowed="all three or none",
            fix="JAX_COORDINATOR_ADDRESS=host:port of process 0, JAX_NUM_PROCESSES=N, JAX_PROCESS_ID=0..N-1",
        )
    count, rank = (_number(env, name) for name in EXPLICIT[1:])
    if not 0 <= rank < count:
        raise UserError(
            f"JAX_PROCESS_ID={rank} is no process of JAX_NUM_PROCESSES={count}",
            where="environment",
            allowed=f"0 to {count - 1}" if count > 0 else "JAX_NUM_PROCESSES of 1 or more",
        )
    # "All it sees" keeps JAX from asking a surrounding launcher for a local rank.
    local = None if "JAX_LOCAL_DEVICE_IDS" in env else ()
    return None if count == 1 else Launch(count, rank, env["JAX_COORDINATOR_ADDRESS"], local)


def _slurm(env: Mapping[str, str]) -> Launch:
    tasks = _tasks_by_node(env["SLURM_STEP_TASKS_PER_NODE"])
    here = tasks[_number(env, "SLURM_NODEID")]
    _check_reachable(env, hosts=len(tasks))
    return Launch(
        count=_number(env, "SLURM_STEP_NUM_TASKS"),
        rank=_number(env, "SLURM_PROCID"),
        coordinator=env.get("JAX_COORDINATOR_ADDRESS"),
        local_devices=_local_devices(env, here, _number(env, "SLURM_LOCALID")),
    )


def _open_mpi(env: Mapping[str, str]) -> Launch:
    # JAX reads the launcher's address from this variable, which Open MPI 5 does not set any more.
    if "JAX_COORDINATOR_ADDRESS" not in env and "OMPI_MCA_orte_hnp_uri" not in env:
        raise UserError(
            "this Open MPI does not say where process 0 runs",
            where="environment",
            fix="mpirun -x JAX_COORDINATOR_ADDRESS=host:port ..., the host being that of rank 0",
        )
    here, local_rank = (_number(env, f"OMPI_COMM_WORLD_LOCAL_{name}") for name in ("SIZE", "RANK"))
    _check_reachable(env, hosts=math.ceil(_number(env, "OMPI_COMM_WORLD_SIZE") / max(here, 1)))
    return Launch(
        count=_number(env, "OMPI_COMM_WORLD_SIZE"),
        rank=_number(env, "OMPI_COMM_WORLD_RANK"),
        coordinator=env.get("JAX_COORDINATOR_ADDRESS"),
        local_devices=_local_devices(env, here, local_rank),
    )


def _check_reachable(env: Mapping[str, str], hosts: int) -> None:
    """Refuses a coordinator that each of several hosts would look for on itself."""
    address = env.get("JAX_COORDINATOR_ADDRESS", "")
    if hosts > 1 and re.match(r"(localhost|127\.[\d.]+|\[?::1\]?)(:\d+)?$", address):
        raise UserError(
            f"JAX_COORDINATOR_ADDRESS={address} is each host itself, and this launch has {hosts} of them",
            where="environment",
            allowed="a name or an address of the host of process 0 that the others reach",
            fix="unset it, where the launcher says who process 0 is (srun does), or name that host",
        )


def _local_devices(env: Mapping[str, str], tasks: int, rank: int) -> tuple[int, ...] | None:
    """The GPUs of one of a node's tasks, of those in CUDA_VISIBLE_DEVICES or, where that is not set, of the node.

    Left alone, JAX takes GPU number ``rank``: one task on eight GPUs would use one of them, and a task that its
    launcher has bound to a single GPU would look for others (github.com/jax-ml/jax/issues/16788 and 23452).
    """
    if "JAX_LOCAL_DEVICE_IDS" in env:
        return None
    named = env.get("CUDA_VISIBLE_DEVICES")
    visible = len(glob.glob(GPUS)) if named is None else len(named.split(",")) if named else 0
    if tasks == 1 or visible == 1 or "SLURM_GPUS_PER_TASK" in env:
        return ()
    each = max(1, visible // tasks)
    return tuple(range(rank * each, (rank + 1) * each))


def _tasks_by_node(text: str) -> list[int]:
    """SLURM's "4(x2),3" as [4, 4, 3]."""
    parts = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(tasks) for tasks, times in parts for _ in range(int(times or 1))]


def _number(env: Mapping[str, str], name: str) -> int:
    try:
        return int(env[name])
    except (KeyError, ValueError):
        raise UserError(f"{name}={env.get(name)!r} is not a number", where="environment", allowed="a number") from None
