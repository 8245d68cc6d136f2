"""A request to stop is heard at any moment, and by all processes at the same step."""

import contextlib
import gc
import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from gpt_jax.errors import Stopped
from gpt_jax.train.signals import SIGNALS, StopRequest
from tests import xla

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_sets_the_flag_and_handlers_come_back(number):
    before = [signal.getsignal(n) for n in SIGNALS]
    with StopRequest() as stop:
        assert not stop.requested and stop.signal is None and not stop.agreed()
        os.kill(os.getpid(), number)
        assert stop.requested and stop.signal is number and stop.agreed()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.signal is number  # the first one is the reason
    assert [signal.getsignal(n) for n in SIGNALS] == before


def test_a_second_interrupt_stops_at_once():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal is signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("others_run", [True, False])
def test_two_interrupts_of_one_busy_call_stop_at_once(others_run):
    """Python runs the handler once for both; where no other thread ran, before the second was counted."""
    sender = f"sleep 0.1; kill -INT {os.getpid()}; sleep 0.1; kill -INT {os.getpid()}"
    with StopRequest(), subprocess.Popen(["sh", "-c", sender]), pytest.raises(KeyboardInterrupt):
        if others_run:
            hashlib.pbkdf2_hmac("sha256", b"a call that takes", b"half a second", 1_000_000)
        else:
            sum(range(30_000_000))
        time.sleep(30)


def test_many_terminations_only_set_the_flag():
    with StopRequest() as stop:
        for _ in range(5):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested


PAIR = """
    import sys, os, signal, time
    import jax
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    rank = int(sys.argv[2])
    jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, rank)
    from gpt_jax.train.signals import StopRequest
    with StopRequest() as stop:
        for step in range(1, 100):
            if rank == 1 and step == 7:
                os.kill(os.getpid(), signal.SIGTERM)  # would end it if a handler of the runtime were still there
            if stop.agreed():
                break
    print("stopped", step, stop.signal.name)
"""


def test_processes_stop_at_the_same_step():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla.flags()}
    command = [sys.executable, "-c", textwrap.dedent(PAIR), port]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pair = [subprocess.Popen([*command, str(rank)], env=environment, text=True, **streams) for rank in range(2)]
    for process in pair:
        out, err = process.communicate(timeout=120)
        assert out.splitlines()[-1:] == ["stopped 7 SIGTERM"], out + err


def test_a_signal_that_was_ignored_stays_ignored():
    """As SIGHUP under nohup, and SIGINT of what a script starts in the background."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_before_there_is_a_step_a_signal_ends_what_is_within():
    """Past code that catches every Exception; from the first step on it waits."""
    with pytest.raises(Stopped, match="SIGTERM before a step"), StopRequest() as stop:
        stop.nothing_to_save()
        with contextlib.suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("it went on")
    with StopRequest() as stop:
        stop.nothing_to_save()
        stop.wait_for_steps()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested


def test_a_signal_is_acknowledged_while_the_main_thread_is_busy(monkeypatch):
    """Python's handlers have to wait for the end of a call such as a compilation."""
    said = []

    class Screen(io.StringIO):
        def write(self, text):
            said.append((time.monotonic(), text))

    monkeypatch.setattr(sys, "stderr", Screen())
    with StopRequest():
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        hashlib.pbkdf2_hmac("sha256", b"a call that takes", b"half a second", 1_000_000)
        ended = time.monotonic()
    assert "SIGUSR1: stopping" in said[0][1] and said[0][0] < ended


def test_one_that_is_raised_where_nothing_can_be_raised_comes_again():
    """What a callback of the garbage collector raises is ignored, and JAX has one that takes long."""
    passed, begun = [], time.monotonic()

    def callback(phase, info):
        if not passed:
            passed.append("began")
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)  # a handler has run before the next line
            passed.append("ended")

    with pytest.raises(Stopped, match="SIGINT before a step"), StopRequest() as stop:
        stop.nothing_to_save()
        gc.callbacks.append(callback)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(callback)
        time.sleep(60)
        pytest.fail("it went on")
    assert passed == ["began"] and time.monotonic() - begun < 30


def test_one_that_comes_out_as_another_exception_is_a_request_to_stop():
    """As a ValueError, where JAX hashes a static argument from C++."""
    with pytest.raises(Stopped, match="SIGTERM before a step"), StopRequest() as stop:
        stop.nothing_to_save()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as interrupt:
            raise ValueError("Non-hashable static arguments") from interrupt
    with pytest.raises(ValueError, match="of its own"), StopRequest() as stop:
        stop.nothing_to_save()
        raise ValueError("of its own")
