"""Whether the processes of a launch can meet: the coordinator's address and port, and how long each waits for the others."""

import contextlib
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator

from gpt_jax.errors import USER_ERROR, UserError

LONGER = 60  # seconds that JAX waits beyond ours: at its own limit it ends the process by a signal, with a C++ stack
FIX = (
    "start every process, let them reach process 0 (JAX_COORDINATOR_PORT chooses another port), and unset proxy variables "
    "(http_proxy, https_proxy)"
)
_ADDRESS = re.compile(r"([^:]+|\[.+\]):(\d{1,5})")


def check(coordinator: str, rank: int) -> None:
    """Refuses an address that nobody can have, and in process 0 one whose port is taken: JAX may crash there.

    Raises:
      UserError: which, and what can be.
    """
    host, port = _parts(coordinator)
    if not host or not 0 < port < 2**16:
        raise UserError(
            f"JAX_COORDINATOR_ADDRESS={coordinator} is no address of process 0",
            where="environment",
            allowed="host:port with a port from 1 to 65535, such as node1:1234 or [::1]:1234",
        )
    if rank == 0 and (refusal := _refusal(port)):
        raise UserError(
            f"process 0 cannot open its port {port}: {refusal}",
            where=f"coordinator {coordinator}",
            fix="end the program that has it (perhaps an earlier launch), or choose another port for all processes",
        )


@contextlib.contextmanager
def deadline(seconds: float, who: str, coordinator: str | None) -> Iterator[None]:
    """Ends the process, exit code 2, where what is within takes longer: JAX cannot be made to stop waiting.

    Args:
      who: this process, to be named.
    """
    timer = threading.Timer(seconds, _give_up, (seconds, who, coordinator))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def place(coordinator: str | None) -> str:
    """Where processes meet, in words."""
    return f"coordinator {coordinator or 'found by JAX'}"


def _give_up(seconds: float, who: str, coordinator: str | None) -> None:
    silent = coordinator is not None and not _answers(coordinator)
    error = UserError(
        f"{who} has waited {seconds:g} s for the others to join{', and nothing answers there' if silent else ''}",
        where=place(coordinator),
        fix=f"{FIX}; --config.mesh.start_timeout=SECONDS gives them more time",
    )
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(USER_ERROR)


def _parts(coordinator: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(coordinator)
    return (found[1].strip("[]"), int(found[2])) if found else ("", 0)


def _answers(coordinator: str) -> bool:
    try:
        with socket.create_connection(_parts(coordinator), timeout=5):
            return True
    except OSError:
        return False


def _refusal(port: int) -> str:
    """Why this process may not listen on all addresses of the machine, as JAX's coordinator does; empty where it may."""
    both = socket.has_dualstack_ipv6()
    with socket.socket(socket.AF_INET6 if both else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a launch before, still closing
        if both:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            probe.bind(("", port))
        except OSError as error:
            return error.strerror or str(error)
    return ""
