"""Processes that cannot meet are told why, and none of them waits for ever or is ended by a signal."""

import re
import socket
import subprocess
import sys

import pytest

from gpt_jax.errors import UserError
from gpt_jax.mesh import joining
from tests.mesh.processes import ROOT, cpu_environment, free_port
from tests.train import tiny

SECONDS = 2


@pytest.mark.parametrize(
    "address", ["node1", "node1:", "node1:port", "node1:0", "node1:65536", ":1234", "", "::1:1234"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UserError, match=re.escape(f"JAX_COORDINATOR_ADDRESS={address} is no address")) as refused:
        joining.check(address, 1)
    assert "node1:1234" in refused.value.allowed


@pytest.mark.parametrize("address", ["node1:1234", "10.0.0.1:65535", "[::1]:1", "a-b.c:8080"])
def test_an_address_is_not(address):
    joining.check(address, 1)


@pytest.mark.parametrize("family, host", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, ""), (socket.AF_INET6, "::")])
def test_a_port_in_use_is_refused_where_it_would_be_opened(family, host):
    if family is socket.AF_INET6 and not socket.has_dualstack_ipv6():
        family, host = socket.AF_INET, "0.0.0.0"
    with socket.socket(family) as other:
        other.bind((host, 0))
        other.listen()
        port = other.getsockname()[1]
        joining.check(f"127.0.0.1:{port}", 1)  # process 1 opens none
        with pytest.raises(UserError, match=f"process 0 cannot open its port {port}: Address already in use"):
            joining.check(f"127.0.0.1:{port}", 0)
    joining.check(f"127.0.0.1:{port}", 0)


def test_what_is_in_time_is_left_alone():
    with joining.deadline(3600, "process 0 of 2", None):
        pass


def test_who_waits_in_vain_ends_with_the_reason(tmp_path):
    """A dead coordinator, and one whose others do not come."""
    text = tiny.write_text(tmp_path)
    command = [sys.executable, "launch.py", *tiny.command(text, tmp_path / "run", mesh__start_timeout=SECONDS)]
    waiting = []
    for rank in (0, 1):
        env = {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(rank),
        }
        output = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        waiting.append(subprocess.Popen(command, cwd=ROOT, env=cpu_environment(1) | env, **output))
    said = [process.communicate(timeout=240)[1] for process in waiting]
    assert [process.returncode for process in waiting] == [2, 2], said
    for rank, text in enumerate(said):
        assert f"error: process {rank} of 2 has waited {SECONDS} s for the others to join" in text
        assert ("nothing answers there" in text) == (rank == 1)
        assert "--config.mesh.start_timeout=SECONDS" in text and "Traceback" not in text and "***" not in text
    assert not (tmp_path / "run").exists()
