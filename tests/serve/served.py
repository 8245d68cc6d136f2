"""Tiny runs with random weights, and servers of them: in a thread of this process, or in one of their own."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai

import launch
from gpt_jax.serve import runs
from gpt_jax.serve.server import Server
from gpt_jax.serve.settings import Bounds
from tests import xla
from tests.train import tiny

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = 128
DEADLINE, START = 120.0, 400.0  # seconds


def made(folder: Path) -> dict[str, Path]:
    """Two runs of one step: "chat" with a template and "plain" without."""
    text = tiny.write_text(folder)
    found = {}
    for name, template, seed in (("chat", "chatml", 1), ("plain", "plain", 2)):
        argv = tiny.command(text, folder / name, data__template=template, data__tokenizer="bpe(vocab_size=270)")
        argv += ["--config.model.context=128", "--config.model.width=32", f"--config.train.seed={seed}"]
        assert launch.main([*argv, "--config.train.steps=1", "--config.train.batch=8"]) == 0
        found[name] = folder / name
    return found


class Running:
    """A server in a thread, and how it is reached."""

    def __init__(self, server: Server, key: str):
        self.server, self.engine = server, server.engine
        self.url = f"http://127.0.0.1:{server.port}"
        self.key = key or "none"
        self.raw = httpx.Client(base_url=self.url, timeout=DEADLINE)

    def client(self, **given) -> openai.OpenAI:
        given = {"max_retries": 0, "timeout": DEADLINE, "api_key": self.key} | given
        return openai.OpenAI(base_url=f"{self.url}/v1", **given)

    def metrics(self) -> str:
        return self.raw.get("/metrics").text


@contextlib.contextmanager
def serving(workdirs: list[Path], bounds: Bounds | None = None, key: str = "", rules=()) -> Iterator[Running]:
    bounds = bounds or Bounds(rows=4)
    server = Server(runs.opened(workdirs), bounds, "127.0.0.1", 0, key, rules)
    thread = threading.Thread(target=server.serve_until_stopped)
    thread.start()
    running = Running(server, key)
    try:
        until(lambda: server.started and running.raw.get("/healthz").status_code == 200, START)
        yield running
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def process(*flags: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """``launch.py serve`` with these flags, once it answers, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla.flags()}
    command = [sys.executable, str(ROOT / "launch.py"), "serve", f"--port={port}", *flags]
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert child.poll() is None, child.stderr.read()
        try:
            return httpx.get(f"{url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(answers, START)
        yield child, url
    finally:
        child.kill()
        child.wait()


def until(holds, seconds: float = DEADLINE) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.02)
