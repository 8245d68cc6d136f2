"""What a request has to be before a route sees it: for this host, with the key, of a size and a type that are allowed."""

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gpt_jax.serve.faults import Fault
from gpt_jax.serve.metrics import Metrics
from gpt_jax.serve.settings import Bounds

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
OPEN = ("/", "/healthz")  # that need no key
# No page may read answers or frame them; nothing is kept by caches.
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
]


class Gate:
    """An ASGI application around another.

    Args:
      loopback: whether the server listens on this machine alone. Then the header Host has to name it, as a page elsewhere
        could have its own name resolve to this machine (DNS rebinding); other servers have a key.
      key: what requests have to bring as "Authorization: Bearer"; empty: nothing.
    """

    def __init__(self, inner: Application, bounds: Bounds, metrics: Metrics, loopback: bool, key: str):
        self._inner, self._bounds, self._metrics = inner, bounds, metrics
        self._loopback, self._key = loopback, key.encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._inner(scope, receive, send)
            return
        begun, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            try:
                body = await self._admitted(scope, receive)
            except Fault as fault:
                await refuse(fault, sending, close=True)
            else:
                await self._inner(scope, _again(body, receive), sending)
        finally:
            route = scope["endpoint"].__name__ if "endpoint" in scope else "none"
            self._metrics.count("requests_total", route=route, status=str(status or 499))
            self._metrics.observe("request_seconds", time.monotonic() - begun, route=route)

    async def _admitted(self, scope: Message, receive: Receive) -> bytes:
        """The body of a request that may pass.

        Raises:
          Fault: it may not.
        """
        headers = {name.lower(): value for name, value in scope["headers"]}
        self._check_host(headers)
        if self._key and scope["path"] not in OPEN:
            self._check_key(headers)
        if scope["method"] == "POST":
            kind = (headers[b"content-type"] if b"content-type" in headers else b"").split(b";")[0].strip().lower()
            if kind != b"application/json":
                raise Fault(415, "The header Content-Type has to be application/json.", code="unsupported_media_type")
        try:
            async with asyncio.timeout(self._bounds.body_seconds):
                return await self._body(headers, receive)
        except TimeoutError:
            raise Fault(408, "The body took too long to arrive.", code="timeout") from None

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        host = (headers[b"host"] if b"host" in headers else b"").decode("latin-1").lower()
        name = host if host.endswith("]") or host in LOOPBACK else host.rpartition(":")[0] or host
        if self._loopback and name not in LOOPBACK:
            raise Fault(403, "The header Host names another machine than this one.", code="host_not_allowed")

    def _check_key(self, headers: dict[bytes, bytes]) -> None:
        given = headers[b"authorization"] if b"authorization" in headers else b""
        scheme, _, key = given.partition(b" ")
        right = hmac.compare_digest(key.strip(), self._key)
        if scheme.lower() != b"bearer" or not right:
            what = "The key is missing or wrong; send it as Authorization: Bearer KEY."
            raise Fault(401, what, code="invalid_api_key")

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        most = self._bounds.body_bytes
        large = Fault(413, f"The body is larger than {most} bytes.", code="body_too_large")
        length = headers[b"content-length"] if b"content-length" in headers else b"0"
        if length.isdigit() and int(length[:19]) > most:
            raise large
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            parts.append(message["body"] if "body" in message else b"")
            size += len(parts[-1])
            more = "more_body" in message and message["more_body"]
            if size > most:
                raise large
        return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """``receive`` that gives a body which has been read, and then what else there is: the hang-up."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def refuse(fault: Fault, send: Send, close: bool = False) -> None:
    """Sends a fault as an answer.

    Args:
      close: whether the connection ends, as what it still holds of the request is not read.
    """
    content = json.dumps(fault.body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers += [(b"retry-after", str(fault.retry).encode())] if fault.retry else []
    headers += [(b"connection", b"close")] if close else []
    headers += [(b"www-authenticate", b"Bearer")] if fault.status == 401 else []
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
