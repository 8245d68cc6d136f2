"""The server process: routes, engine and signals together."""

import asyncio
import socket
import sys
import time
from collections.abc import Sequence
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gpt_jax.errors import UserError
from gpt_jax.serve.app import Routes
from gpt_jax.serve.engine import Engine
from gpt_jax.serve.gate import LOOPBACK, Gate
from gpt_jax.serve.metrics import Metrics
from gpt_jax.serve.moderation.filters import Rule
from gpt_jax.serve.runs import ServedRun
from gpt_jax.serve.settings import Bounds

BACKLOG = 256  # connections beside those of requests that wait or run
LOOK = 0.05  # seconds between two looks at whether the last request, or the engine, has ended
FORCED = 1.0  # seconds that the engine has for its next look when the server is to end at once

IDLE = 30  # seconds after which a connection is closed whose request, or the next one, has not begun


class Http(H11Protocol):
    """HTTP/1.1 that does not wait for long until a request's headers have come."""

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._answered = self.cycle
        self.loop.call_later(IDLE, self._look)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self.cycle is self._answered:
            self.transport.close()
            return
        self._answered = self.cycle
        self.loop.call_later(IDLE, self._look)


class Server(uvicorn.Server):
    """Listens until SIGTERM or SIGINT. Then requests that run or wait are finished, and new ones refused; a second signal
    ends it at once.

    Args:
      rules: the content filter.
      key: see ``Gate``.

    Attributes:
      port: where it listens, also where port 0 let the system choose.

    Raises:
      UserError: it cannot listen there.
    """

    def __init__(
        self,
        runs: Sequence[ServedRun],
        bounds: Bounds,
        host: str,
        port: int,
        key: str = "",
        rules: Sequence[Rule] = (),
    ):
        self._socket = _bound(host, port)
        self.port = self._socket.getsockname()[1]
        metrics = Metrics()
        self.engine = Engine(runs, bounds, metrics, rules)
        routes = Routes(runs, self.engine, bounds, metrics, rules)
        gate = Gate(routes.application(), bounds, metrics, is_loopback(host), key)
        config = uvicorn.Config(
            gate,
            host=host,
            http=Http,
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE,
            limit_concurrency=bounds.queue + BACKLOG,
            backlog=BACKLOG,
        )
        super().__init__(config)
        self._names = ", ".join(run.name for run in runs)
        self._stopping: asyncio.Task | None = None

    def serve_until_stopped(self) -> None:
        """
        Raises:
          Exception: the engine's, which ended it.
          KeyboardInterrupt: it was to end at once while the engine compiled, which cannot be waited for.
        """
        self.run(sockets=[self._socket])
        if self.engine.failed is not None:
            raise self.engine.failed
        if self.engine.going:
            raise KeyboardInterrupt

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.engine.start()
            place = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            print(f"serving {self._names} on http://{place}:{self.port}", file=sys.stderr, flush=True)

    async def shutdown(self, sockets: list | None = None) -> None:
        await super().shutdown(sockets)
        self.engine.stop()
        latest = time.monotonic() + FORCED
        while self.engine.going and not (self.force_exit and time.monotonic() > latest):
            await asyncio.sleep(LOOK)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self.engine.failed is not None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._stopping is not None:
            self.should_exit = self.force_exit = True
            return
        self.engine.drain()
        print("stopping once all requests are answered", file=sys.stderr, flush=True)
        self._stopping = asyncio.get_running_loop().create_task(self._stop_when_idle())

    async def _stop_when_idle(self) -> None:
        while not self.engine.idle:
            await asyncio.sleep(LOOK)
        self.should_exit = True


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        what = f"{host} port {port} cannot be listened at: {error.strerror or error}"
        raise UserError(what, where="--host, --port", fix="another --port; 0 takes one that is free") from None
    return found


def is_loopback(host: str) -> bool:
    return host in LOOPBACK
