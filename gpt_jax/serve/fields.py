"""The fields of requests: which there are, what they may hold, and what is done with those that others have."""

from collections.abc import Callable, Mapping
from typing import Any

from gpt_jax.errors import closest
from gpt_jax.serve.faults import Fault, unsupported, wrong
from gpt_jax.serve.settings import Bounds

Read = Callable[[str, Any], Any]  # (name, value) -> the value, or raises ``Fault``
LARGEST = 2**31 - 1


def text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong(name, "it is no text", "a text")
    return value


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong(name, "it is neither true nor false", "true, false")
    return value


def whole(least: int, most: int) -> Read:
    def read(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise wrong(name, "it is no such number", f"a whole number from {least} to {most}")
        return value

    return read


def number(least: float, most: float) -> Read:
    def read(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise wrong(name, "it is no such number", f"a number from {least:g} to {most:g}")
        return float(value)

    return read


def stops(bounds: Bounds) -> Read:
    allowed = f"a text, or up to {bounds.stops}, of 1 to {bounds.stop_characters} characters"

    def read(name: str, value: Any) -> tuple[str, ...]:
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list) or len(given) > bounds.stops:
            raise wrong(name, "it is no such list", allowed)
        if not all(isinstance(stop, str) and 0 < len(stop) <= bounds.stop_characters for stop in given):
            raise wrong(name, "an entry is no such text", allowed)
        return tuple(given)

    return read


def stream_options(name: str, value: Any) -> dict[str, bool]:
    if not isinstance(value, dict) or not value.keys() <= {"include_usage", "include_obfuscation"}:
        raise wrong(name, "it is no such object", '{"include_usage": true}')
    return {key: flag(f"{name}.{key}", given) for key, given in value.items()}


def anything(name: str, value: Any) -> Any:
    return value


def only(allowed: list[Any], what: str) -> Read:
    """A field that is supported where it changes nothing."""

    def read(name: str, value: Any) -> None:
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise unsupported(name, what)

    return read


TOOLS = only([[], "none"], "models here call no tools")
TEMPLATE = only([], "the template of a run is the one that it was trained with")


def common(bounds: Bounds) -> dict[str, Read]:
    """What both routes have."""
    return {
        "model": text,
        "temperature": number(0, 2),
        "top_p": number(0, 1),
        "top_k": whole(-1, LARGEST),
        "min_p": number(0, 1),
        "presence_penalty": number(-2, 2),
        "frequency_penalty": number(-2, 2),
        "repetition_penalty": number(0.01, 100),
        "n": whole(1, bounds.texts),
        "seed": whole(-(2**63), 2**64 - 1),
        "stop": stops(bounds),
        "stream": flag,
        "stream_options": stream_options,
        "logit_bias": only([{}], "there are no biases of single tokens"),
        # What concerns OpenAI's own service.
        **dict.fromkeys(("user", "metadata", "store", "service_tier", "safety_identifier"), anything),
        **dict.fromkeys(("prompt_cache_key", "prompt_cache_retention"), anything),
    }


def chat(bounds: Bounds) -> dict[str, Read]:
    plain = only([{"type": "text"}], "answers are plain text")
    return {
        **common(bounds),
        "messages": anything,
        "max_tokens": whole(1, LARGEST),
        "max_completion_tokens": whole(1, LARGEST),
        "logprobs": flag,
        "top_logprobs": whole(0, bounds.top),
        **dict.fromkeys(("tools", "tool_choice", "functions", "function_call"), TOOLS),
        "parallel_tool_calls": anything,
        "response_format": plain,
        "modalities": only([["text"]], "answers are text"),
        **dict.fromkeys(
            ("audio", "prediction", "web_search_options"), only([], "models here read and write text alone")
        ),
        **dict.fromkeys(("reasoning_effort", "verbosity"), only([], "models here have no such setting")),
        **dict.fromkeys(("chat_template", "chat_template_kwargs"), TEMPLATE),
    }


def completions(bounds: Bounds) -> dict[str, Read]:
    return {
        **common(bounds),
        "prompt": anything,
        "max_tokens": whole(0, LARGEST),
        "echo": flag,
        "logprobs": whole(0, bounds.top),
        "suffix": only([""], "texts are continued at their end alone"),
        "best_of": only([1], "n gives several texts"),
    }


def read(body: Any, known: Mapping[str, Read]) -> dict[str, Any]:
    """The fields of a request that are given, by name; null is as if left out.

    Raises:
      Fault: one is unknown, not supported, or holds what is not allowed.
    """
    if not isinstance(body, dict):
        raise Fault(400, "The body is no JSON object.", code="invalid_json")
    for name in body:
        if name not in known:
            near = closest(name, known)
            hint = f" Did you mean {near!r}?" if near else ""
            what = f"There is no parameter {name[:100]!r}.{hint}"
            raise Fault(400, what, param=name[:100], code="unknown_parameter")
    return {name: known[name](name, value) for name, value in body.items() if value is not None}
