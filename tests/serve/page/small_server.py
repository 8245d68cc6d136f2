"""The routes that the page calls, answered by a tiny model, each token a while after the one before."""

import asyncio
import base64
import hashlib
import json
import re
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import gpt_jax
from gpt_jax.sample.outputs.stream import TextStream
from gpt_jax.sample.prompts import prompt_of, writer_of

PAGE = Path(gpt_jax.__file__).parent / "serve" / "page.html"
PAUSE = 0.02  # seconds between tokens
MARKUP = "<img src=x onerror=document.title='hit'><script>document.title='hit'</script>"
RUNS = ("letters", "markup")
NEW = 80  # tokens of an answer whose request says nothing


def held(run: str, new: int) -> dict:
    """The knobs that a run has besides those of a request: both are the same model, held to other texts."""
    if run == "markup":
        return {"processors": (f"regex(pattern={re.escape(MARKUP)!r})",), "max_new_tokens": 200}
    pattern = "regex(pattern='[a-f \u00e9\U0001f600]*')"
    return {"processors": (pattern,), "max_new_tokens": new, "min_new_tokens": new}


def policy(content: bytes) -> str:
    """Only the page's own script and styles run, and it reaches its own server alone."""

    def digest(tag: str) -> str:
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), content, re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {digest('style')}; script-src {digest('script')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def application(model) -> Starlette:
    writer = writer_of(model.config, model.tokenizer)
    spelling = model.tokenizer.token_bytes()
    application = Starlette()
    application.state.asked = []

    async def page(request):
        content = PAGE.read_bytes()
        return Response(content, media_type="text/html", headers={"Content-Security-Policy": policy(content)})

    async def models(request):
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in RUNS]})

    async def chat(request):
        asked = await request.json()
        application.state.asked.append(asked)
        new = asked.get("max_tokens", NEW)
        prompt = prompt_of(asked["messages"], "messages", model.tokenizer, writer)
        if len(prompt.ids) + new > model.config.model.context:
            error = {"message": "too long", "code": "context_length_exceeded"}
            return JSONResponse({"error": error}, 400)
        knobs = {name: asked[name] for name in ("temperature", "top_p", "seed")}
        knobs |= {"logprobs": asked.get("top_logprobs", 0), **held(asked["model"], new)}
        found = await asyncio.to_thread(model.generate, asked["messages"], **knobs)
        return StreamingResponse(parts(found), media_type="text/event-stream")

    def entry(token, logprob):
        return {"token": model.tokenizer.decode([token]), "logprob": logprob, "bytes": list(spelling[token])}

    async def parts(found):
        stream = TextStream(model.tokenizer, found.prompt_ids, complete=True)
        for i, token in enumerate(found.ids):
            ended = token in model.tokenizer.stop_ids
            choice = {"index": 0, "delta": {"content": "" if ended else stream.write([token])}, "finish_reason": None}
            if found.top_ids is not None:
                top = [entry(*one) for one in zip(found.top_ids[i], found.top_logprobs[i], strict=True)]
                choice["logprobs"] = {"content": [{**entry(token, found.logprobs[i]), "top_logprobs": top}]}
            yield f"data: {json.dumps({'choices': [choice]})}\n\n"
            await asyncio.sleep(PAUSE)
        last = {"index": 0, "delta": {"content": stream.close()}, "finish_reason": found.finish_reason}
        yield f"data: {json.dumps({'choices': [last]})}\n\n"
        yield "data: [DONE]\n\n"

    application.router.routes += [
        Route("/", page),
        Route("/v1/models", models),
        Route("/v1/chat/completions", chat, methods=["POST"]),
    ]
    return application
