"""The routes. They read requests, queue them, and wait: nothing here computes."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gpt_jax.serve import faults, fields, page
from gpt_jax.serve.answers import Answer, ChatAnswer, CompletionAnswer
from gpt_jax.serve.asking import Forbidden, chat_texts, completion_texts
from gpt_jax.serve.engine import Engine
from gpt_jax.serve.faults import Fault
from gpt_jax.serve.gate import Receive, Send
from gpt_jax.serve.metrics import Metrics
from gpt_jax.serve.moderation.filters import Rule
from gpt_jax.serve.runs import ServedRun
from gpt_jax.serve.settings import Bounds
from gpt_jax.serve.tickets import Piece, Ticket

GRACE = 10.0  # seconds beyond a request's own, after which a route no longer waits for the engine
DONE = b"data: [DONE]\n\n"


class Json(Response):
    """Escapes what is not ASCII, as a text may hold half of a surrogate pair, which UTF-8 cannot write."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode()


class Events(Response):
    """An answer in parts, as server-sent events, until it is complete or the client hangs up.

    Args:
      ended: called in either case.
    """

    media_type = "text/event-stream"

    def __init__(self, parts: AsyncGenerator[bytes], ended: Callable[[], None]):
        super().__init__()
        del self.headers["content-length"]
        self._parts, self._ended = parts, ended

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        async def all_parts() -> None:
            async with aclosing(self._parts) as parts:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for part in parts:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b""})

        try:
            await unless_hung_up(all_parts(), receive)
        finally:
            self._ended()


class Routes:
    """What the routes need.

    Args:
      rules: what prompts may not hold.
    """

    def __init__(
        self, runs: Sequence[ServedRun], engine: Engine, bounds: Bounds, metrics: Metrics, rules: Sequence[Rule] = ()
    ):
        self._runs = {run.name: run for run in runs}
        self._engine, self._bounds, self._metrics, self._rules = engine, bounds, metrics, rules
        self._reader = ThreadPoolExecutor(1, "reader")  # tokenizers take long over long texts

    def application(self) -> Starlette:
        found = Starlette(
            routes=[
                Route("/", self.page),
                Route("/healthz", self.health),
                Route("/metrics", self.metrics),
                Route("/v1/models", self.models),
                Route("/v1/models/{name:path}", self.model),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/completions", self.completions, methods=["POST"]),
            ],
            exception_handlers={Fault: _fault, HTTPException: _http, Exception: _bug},
        )
        found.router.redirect_slashes = False
        return found

    async def page(self, request: Request) -> Response:
        found = page.page()
        if found is None:
            raise HTTPException(404)
        content, policy = found
        return Response(content, media_type="text/html", headers={"Content-Security-Policy": policy})

    async def health(self, request: Request) -> Response:
        well = self._engine.well
        return PlainTextResponse("ok\n" if well else "cannot answer now\n", 200 if well else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def models(self, request: Request) -> Response:
        return Json({"object": "list", "data": [_model(run) for run in self._runs.values()]})

    async def model(self, request: Request) -> Response:
        return Json(_model(self._run(request.path_params["name"])))

    async def chat(self, request: Request) -> Response:
        given = fields.read(_parsed(await request.body()), fields.chat(self._bounds))
        run = self._run_of(given)
        texts = await self._read(chat_texts, run, given)
        return await self._answered(request, given, ChatAnswer(run, texts, _samples(given)))

    async def completions(self, request: Request) -> Response:
        given = fields.read(_parsed(await request.body()), fields.completions(self._bounds))
        run = self._run_of(given)
        prompts, texts = await self._read(completion_texts, run, given)
        echoed = prompts if "echo" in given and given["echo"] else None
        return await self._answered(request, given, CompletionAnswer(run, texts, _samples(given), echoed))

    async def _read(self, reading: Callable, run: ServedRun, given: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._reader, reading, run, given, self._bounds, self._rules)
        except Forbidden as fault:
            self._metrics.count("filter_actions_total", rule=fault.rule.name, side="prompt")
            raise

    async def _answered(self, request: Request, given: dict[str, Any], answer: Answer) -> Response:
        streamed = "stream" in given and given["stream"]
        options = given["stream_options"] if "stream_options" in given else {}
        if options and not streamed:
            raise faults.wrong("stream_options", "it needs stream", "stream = true beside it")
        ticket = Ticket(answer.run, answer.texts, self._bounds.seconds)
        self._engine.submit(ticket)
        if streamed:
            parts = self._streamed(ticket, answer, options.get("include_usage", False))
            return Events(parts, lambda: self._give_up(ticket))
        try:
            return await unless_hung_up(self._whole(ticket, answer), request.receive) or Response(status_code=499)
        finally:
            self._give_up(ticket)

    async def _whole(self, ticket: Ticket, answer: Answer) -> Response:
        async for piece in self._pieces(ticket):
            answer.choices[piece.index].add(piece)
        return Json(answer.complete())

    async def _streamed(self, ticket: Ticket, answer: Answer, usage: bool) -> AsyncGenerator[bytes]:
        rest = {"usage": None} if usage else {}
        try:
            for chunk in answer.opening():
                yield _event({**chunk, **rest})
            async for piece in self._pieces(ticket):
                yield _event({**answer.add(piece), **rest})
            if usage:
                yield _event(answer.chunked([], usage=answer.usage))
            yield DONE
        except Fault as fault:
            yield _event(fault.body)

    async def _pieces(self, ticket: Ticket) -> AsyncGenerator[Piece]:
        """Those of all texts of a request, until each has ended."""
        going = len(ticket.texts)
        try:
            async with asyncio.timeout(self._bounds.seconds + GRACE):
                while going:
                    piece = await ticket.event()
                    going -= piece.finish is not None
                    yield piece
        except TimeoutError:
            raise faults.late() from None

    def _give_up(self, ticket: Ticket) -> None:
        if ticket.left > 0:
            ticket.cancel()
            self._metrics.count("hang_ups_total")

    def _run_of(self, given: dict[str, Any]) -> ServedRun:
        if "model" not in given:
            raise faults.wrong("model", "it is missing", ", ".join(self._runs))
        return self._run(given["model"])

    def _run(self, name: str) -> ServedRun:
        if name not in self._runs:
            what = f"The model {name[:200]!r} does not exist. There are: {', '.join(self._runs)}."
            raise Fault(404, what, param="model", code="model_not_found")
        return self._runs[name]


async def unless_hung_up(answer: Any, receive: Receive) -> Any:
    """What a coroutine returns; None where the client hung up before, which ends the coroutine."""
    working = asyncio.ensure_future(answer)
    listening = asyncio.ensure_future(_hung_up(receive))
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _samples(given: dict[str, Any]) -> int:
    return given["n"] if "n" in given else 1


def _model(run: ServedRun) -> dict[str, Any]:
    return {"id": run.name, "object": "model", "created": run.created, "owned_by": "gpt_jax"}


def _parsed(body: bytes) -> Any:
    def constant(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON")

    try:
        return json.loads(body.decode("utf-8"), parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Fault(400, f"The body is not JSON: {str(error)[:200]}.", code="invalid_json") from None


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, allow_nan=False).encode() + b"\n\n"


async def _fault(request: Request, fault: Any) -> Response:
    headers = {"Retry-After": str(fault.retry)} if fault.retry else None
    return Json(fault.body, fault.status, headers)


async def _http(request: Request, error: Any) -> Response:
    what = {404: "There is no such route.", 405: "The route does not take this method."}
    message = what[error.status_code] if error.status_code in what else str(error.detail)
    return Json(Fault(error.status_code, message).body, error.status_code, error.headers)


async def _bug(request: Request, error: Exception) -> Response:
    return Json(faults.broken().body, 500)
