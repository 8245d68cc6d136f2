import json

import pytest

from gpt_jax.errors import RESUMABLE, UserError
from gpt_jax.mesh import processes
from gpt_jax.mesh.processes import EXPLICIT, Launch, find_launch
from gpt_jax.storage import as_failure
from tests.mesh.processes import run_processes

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "n[0-2]",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_NTASKS": "3",
    "SLURM_STEP_TASKS_PER_NODE": "1(x3)",
    "SLURM_PROCID": "2",
    "SLURM_NODEID": "2",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911",
}


def explicit(address="host:1234", count="2", rank="1"):
    return dict(zip(EXPLICIT, (address, count, rank), strict=True))


@pytest.mark.parametrize(
    "env",
    [
        {},
        explicit(count="1", rank="0"),
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"},  # an array task started by srun
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "16", "SLURM_PROCID": "0"},  # a batch script, outside srun
        OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"},
    ],
)
def test_alone(env):
    assert find_launch(env) is None


def test_explicit_variables_win_and_take_all_devices_they_see():
    assert find_launch(explicit() | SLURM) == Launch(2, 1, "host:1234", ())
    assert find_launch(explicit() | {"JAX_LOCAL_DEVICE_IDS": "0,1"}) == Launch(2, 1, "host:1234", None)


@pytest.mark.parametrize("missing", EXPLICIT)
def test_two_of_three_explicit_variables_are_an_error_that_names_the_third(missing):
    env = {name: value for name, value in explicit().items() if name != missing}
    with pytest.raises(UserError, match=f"^{missing} not set"):
        find_launch(env)


@pytest.mark.parametrize("count, rank", [("2", "2"), ("2", "-1"), ("two", "0"), ("0", "0")])
def test_numbers_that_make_no_sense_are_errors(count, rank):
    with pytest.raises(UserError):
        find_launch(explicit(count=count, rank=rank))


def test_one_slurm_task_a_node_takes_all_its_gpus():
    assert find_launch(SLURM | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}) == Launch(3, 2, None, ())


@pytest.fixture(autouse=True)
def node(tmp_path, monkeypatch):
    """A function that gives this node so many GPUs; none, until it is called."""
    monkeypatch.setattr(processes, "GPUS", str(tmp_path / "nvidia[0-9]*"))
    return lambda count: [(tmp_path / f"nvidia{i}").touch() for i in range(count)]


@pytest.mark.parametrize(
    "extra, devices",
    [
        ({}, (4, 5, 6, 7)),
        ({"CUDA_VISIBLE_DEVICES": ""}, (1,)),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, (1,)),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, (2, 3)),
        ({"CUDA_VISIBLE_DEVICES": "0"}, ()),  # bound by the launcher
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_GPUS_PER_TASK": "4"}, ()),
        ({"JAX_LOCAL_DEVICE_IDS": "3"}, None),
    ],
)
def test_tasks_of_one_node_share_its_gpus(extra, devices, node):
    node(8)
    env = SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1,2(x2)", "SLURM_STEP_NUM_TASKS": "5", "SLURM_LOCALID": "1"}
    assert find_launch(env | extra) == Launch(5, 2, None, devices)


def test_open_mpi(node):
    assert find_launch(OPEN_MPI) == Launch(4, 3, None, (1,))  # of no GPUs: JAX's own choice
    newer = {name: value for name, value in OPEN_MPI.items() if name != "OMPI_MCA_orte_hnp_uri"}
    with pytest.raises(UserError, match="where process 0 runs"):
        find_launch(newer)
    assert find_launch(newer | {"JAX_COORDINATOR_ADDRESS": "h:1"}) == Launch(4, 3, "h:1", (1,))
    node(8)
    assert find_launch(OPEN_MPI) == Launch(4, 3, None, (4, 5, 6, 7))


@pytest.mark.parametrize("address", ["localhost:1", "127.0.0.1:1", "127.1.2.3", "[::1]:1"])
def test_a_coordinator_that_other_hosts_cannot_reach_is_refused(address):
    loopback = {"JAX_COORDINATOR_ADDRESS": address}
    several = "is each host itself, and this launch has"
    with pytest.raises(UserError, match=f"{several} 3"):
        find_launch(SLURM | loopback)
    with pytest.raises(UserError, match=f"{several} 2"):
        find_launch(OPEN_MPI | loopback)
    here = {"SLURM_STEP_TASKS_PER_NODE": "3", "SLURM_NODEID": "0", "SLURM_LOCALID": "2"}
    assert find_launch(SLURM | here | loopback).coordinator == address
    assert find_launch(OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"} | loopback).coordinator == address
    assert find_launch(SLURM | {"JAX_COORDINATOR_ADDRESS": "127host:1"}).coordinator == "127host:1"


def test_two_processes_share_a_batch(tmp_path):
    finished = run_processes(["-m", "tests.mesh.two_processes"], tmp_path, count=2, devices=4, seconds=240)
    assert [process.returncode for process in finished] == [0, 0], (
        finished[0].stderr[-2000:] + finished[1].stderr[-2000:]
    )
    for rank, process in enumerate(finished):
        found = json.loads(process.stdout.splitlines()[-1])  # gloo writes lines of its own
        assert (found["process"], found["processes"], found["devices"]) == (rank, 2, 8)
        whole = {"sum": sum(range(16 * 3)), "equal": True, "shape": [16, 3]}
        assert found["data"] == whole | {"rows": [8 * rank, 8 * rank + 8]}
        assert found["mixed"] == whole | {"rows": [8 * rank, 8 * rank + 8]}
        assert found["tensor"] == found["pipeline"] == whole | {"rows": [0, 16]}


@pytest.mark.slow
def test_a_process_may_come_later_to_the_first_step_than_gloo_waits(tmp_path):
    gloo_waits = 30
    finished = run_processes(["-m", "tests.mesh.late_process", str(gloo_waits + 3)], tmp_path, seconds=240)
    assert [process.returncode for process in finished] == [0, 0], finished[0].stderr[-2000:]


def test_processes_that_hang_are_killed_at_their_limit(tmp_path):
    with pytest.raises(TimeoutError, match="did not end within 2 s"):
        run_processes(["-c", "import time; time.sleep(600)"], tmp_path, seconds=2)


def test_jax_in_use_before_the_processes_join_is_an_error_of_the_user(tmp_path):
    code = "import jax; jax.devices()\nfrom gpt_jax.mesh.processes import start_processes\nstart_processes()"
    (finished,) = run_processes(["-c", code], tmp_path, count=1, env={})[:1]
    assert finished.returncode == 0  # a launch of one process joins nothing
    (first, _) = run_processes(["-c", code], tmp_path, count=2, seconds=60)
    assert "UserError: the processes must join before JAX is used" in first.stderr


@pytest.mark.parametrize(
    "said, lost",
    [
        ("UNKNOWN: Gloo all-reduce failed: [tcp/pair.cc:538] Read error [127.0.0.1]:4: Connection reset by peer", True),
        ("INVALID_ARGUMENT: Gloo context initialization failed: Connection closed by peer", True),
        ("UNKNOWN: Gloo collective permute failed: timed out", True),
        ("Timed out while waiting for async_commit_complete barrier.", True),
        ("INTERNAL: NCCL operation failed: remote process exited or there was a network error", True),
        ("shapes (2,) and (3,) do not match", False),
    ],
)
def test_a_collective_without_its_partner_is_no_bug(said, lost):
    failure = as_failure(ValueError(said))
    assert (failure is not None) == lost
    assert not lost or failure.exit_code == RESUMABLE
