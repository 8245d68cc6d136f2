"""Requests that are not in order, drawn with a seed: each is answered, none by 500, and none with another request's text.

python -m tests.serve.malformed --requests=2000
"""

import argparse
import json
import random
import socket
import tempfile
import threading
from collections import Counter
from pathlib import Path

from gpt_jax.serve import server
from gpt_jax.serve.settings import Bounds
from tests.serve import served

SECRET = "zebra quagga okapi"  # in the prompts of requests that run beside the malformed ones
ROUTES = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/models",
    "/v1/models/x",
    "/",
    "/metrics",
    "/healthz",
    "/v1/none",
]
VALUES = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        3,
        2**31,
        2**63,
        -(2**70),
        10**400,
        0.5,
        -0.5,
        1e308,
        "",
        "x",
        "\x00",
        "\ud800",
        "é" * 9,
    ),
    *([], [[]], [1], [-1], ["a"], [None], [1, "a"], [True], {}, {"a": 1}, {"type": "text"}, [[1], ["a"]], [[1] * 200]),
    *(
        [{"role": "user", "content": "hi"}],
        [{"role": 5}],
        [{"role": "user", "content": [{"type": "text"}]}],
        "a" * 5000,
    ),
]
NAMES = [
    *(
        "model",
        "messages",
        "prompt",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "n",
        "stop",
    ),
    *(
        "seed",
        "logprobs",
        "top_logprobs",
        "stream",
        "stream_options",
        "echo",
        "tools",
        "logit_bias",
        "suffix",
        "best_of",
    ),
    *(
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "user",
        "metadata",
        "response_format",
        "chat_template",
        "",
        "🙂",
    ),
]
METHODS = ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "B\x00D", "POST "]
TEXTS = ["", "x", "-1", "chunked", "evil.example", "text/plain", "100-continue", "9" * 30, "\x00"]  # of headers
BOUNDS = Bounds(rows=4, body_seconds=0.3)


def valid(draw: random.Random, route: str) -> dict:
    """A request that is in order."""
    body = {"model": draw.choice(["chat", "plain"]), "max_tokens": draw.randint(1, 6), "seed": draw.randint(0, 9)}
    if "chat" in route:
        return body | {"messages": [{"role": "user", "content": "the cat"}]}
    return body | {"prompt": draw.choice(["the cat", [1, 2, 3], ["a", "b"]])}


def body_of(draw: random.Random, route: str) -> bytes:
    """A body with fields that are wrong, or that is cut, mixed up, or no JSON."""
    body = valid(draw, route)
    for _ in range(draw.randint(1, 3)):
        body[draw.choice(NAMES)] = draw.choice(VALUES)
    if draw.random() < 0.2:
        del body[draw.choice(list(body))]
    text = json.dumps(draw.choice([body, body, body, body, [body], draw.choice(VALUES)])).encode()
    kind = draw.random()
    if kind < 0.1:
        return text[: draw.randrange(len(text) + 1)]
    if kind < 0.2:
        at = draw.randrange(len(text) + 1)
        return text[:at] + draw.randbytes(draw.randint(1, 4)) + text[at:]
    if kind < 0.22:
        return draw.choice(
            [b"", b"NaN", b"[" * 50_000, b'{"a":' * 20_000, b" " * (2**20 + 1), b"\xff\xfe{}", b"9" * 6000]
        )
    return text


def request_of(draw: random.Random) -> bytes:
    """All bytes of a request."""
    route = draw.choice(ROUTES[:2]) if draw.random() < 0.85 else draw.choice(ROUTES)
    body = body_of(draw, route)
    method = "POST" if draw.random() < 0.9 else draw.choice(METHODS)
    headers = {"Host": "localhost", "Content-Type": "application/json", "Connection": "close"}
    headers["Content-Length"] = str(len(body))
    if draw.random() < 0.15:
        name = draw.choice([*headers, "Transfer-Encoding", "Expect", "Authorization", "X\r\nY", "Origin"])
        headers[name] = draw.choice(TEXTS)
    if draw.random() < 0.05:
        del headers[draw.choice(list(headers))]
    path = route if draw.random() < 0.95 else route + draw.choice(["?a=%00", "/../..", "%ff", "\x00", " ", "#", "//"])
    version = "HTTP/1.1" if draw.random() < 0.98 else draw.choice(["HTTP/1.0", "HTTP/9", ""])
    lines = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def answer(port: int, request: bytes, seconds: float) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        parts = []
        try:
            connection.sendall(request)
            while part := connection.recv(2**16):
                parts.append(part)
        except (ConnectionResetError, BrokenPipeError):
            pass
        return b"".join(parts)


def fault_of(request: bytes, found: bytes) -> str:
    """What is wrong with an answer; empty where nothing is."""
    status = found[9:12]
    if found and (not found.startswith(b"HTTP/1.1 ") or not status.isdigit()):
        return "it is no answer of HTTP"
    if status[:1] == b"5" or b"Traceback" in found or b"internal_error" in found:
        return "it is a fault of the server"
    if any(word.encode() in found and word.encode() not in request for word in SECRET.split()):
        return "it holds the text of another request"
    return ""


def fuzz(running: served.Running, requests: int, seed: int, seconds: float = 60.0) -> Counter:
    """Sends malformed requests while others run, and counts the answers by status.

    Raises:
      AssertionError: an answer is at fault, or does not come.
    """
    draw, counted, stop = random.Random(seed), Counter(), threading.Event()
    expected, others = beside(running), []

    def neighbours() -> None:
        while not stop.is_set() and not others:
            others.extend(found for found in [beside(running)] if found != expected)

    thread = threading.Thread(target=neighbours)
    thread.start()
    try:
        for number in range(requests):
            request = request_of(draw)
            try:
                found = answer(running.server.port, request, seconds)
            except TimeoutError:
                raise AssertionError(f"request {number} of seed {seed} hangs: {request[:2000]!r}") from None
            fault = fault_of(request, found)
            assert not fault, f"request {number} of seed {seed}: {fault}\n{request[:2000]!r}\n{found[:2000]!r}"
            counted[found[9:12].decode() or "closed"] += 1
    finally:
        stop.set()
        thread.join()
    assert not others, f"a request beside them was answered {others}"
    assert beside(running) == expected and running.raw.get("/healthz").status_code == 200
    return counted


def beside(running: served.Running) -> str:
    """The text of a request that is in order; where it is not answered so, what is said in its place."""
    body = {"model": "plain", "prompt": SECRET, "echo": True, "max_tokens": 20, "seed": 4}
    response = running.raw.post("/v1/completions", json=body)
    return response.json()["choices"][0]["text"] if response.status_code == 200 else response.text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    server.IDLE = 1  # seconds, as some requests leave their connection open
    with tempfile.TemporaryDirectory() as folder:
        runs = served.made(Path(folder))
        with served.serving(list(runs.values()), BOUNDS) as running:
            counted = fuzz(running, given.requests, given.seed)
    print(", ".join(f"{status}: {count}" for status, count in sorted(counted.items())))


if __name__ == "__main__":
    main()
