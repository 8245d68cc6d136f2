"""Whether two model configurations are the same function of their parameters."""

import inspect
from typing import Any

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.config.sections import BIASES
from gpt_jax.interop.rope import rotary
from gpt_jax.model import init

SIZES = ("layers", "width", "heads", "kv_heads", "head_dim", "mlp_width", "vocab", "context")
VALUES = (*SIZES, "tied", "embed_scale", "logit_softcap")
CALLS = ("norm", "mlp", "block")
FREE = ("attend", "dropout", "dtype", "scan", "remat")  # how the function is computed, or trained


def difference(a: ModelConfig, b: ModelConfig) -> str:
    """The first knob in which they differ as mathematics; empty where they do not. Biases may be fewer in ``a``: one
    that is missing is one of zeros."""
    if size := next((knob for knob in SIZES if getattr(a, knob) != getattr(b, knob)), ""):
        return size  # a family may have made of it one that no model has, which means nothing
    left, right = meaning(a), meaning(b)
    for knob in left:
        same = left[knob] <= right[knob] if knob == "bias" else left[knob] == right[knob]
        if not same:
            return knob
    return ""


def meaning(model: ModelConfig) -> dict[str, Any]:
    """Knob -> a value that is equal where the knob means the same."""
    found = {knob: getattr(model, knob) for knob in VALUES}
    found |= {knob: _call(f"model.{knob}", getattr(model, knob)) for knob in CALLS}
    found["init"] = init.scheme(model).logits
    found["position"] = _position(model, model.position)
    cycle = [_attention(model, call) for call in model.attentions]
    found["attention"] = [cycle[i % len(cycle)] for i in range(model.layers)]
    found["bias"] = {place for place in BIASES if model.biased(place)} - _unused(model)
    return found


def _unused(model: ModelConfig) -> set[str]:
    """Places of biases that the model has not."""
    norm, mlp = (registry.parse(call)[0] for call in (model.norm, model.mlp))
    return ({"norm"} if norm == "rmsnorm" else set()) | ({"router"} if mlp != "moe" else set())


def _call(kind: str, call: str) -> tuple[str, dict[str, Any]]:
    """A name, and all its options with the defaults filled in."""
    name, options = registry.parse(call)
    variant = registry.lookup(kind, name)
    signature = inspect.signature(variant.__init__ if inspect.isclass(variant) else variant)
    defaults = {p.name: p.default for p in signature.parameters.values() if p.default is not p.empty}
    return name, {**defaults, **options}


def _position(model: ModelConfig, call: str) -> Any:
    turning = rotary(model, call)
    if turning is None:
        return _call("model.position", call)
    return turning.theta, turning.channels(model.head_dim), turning.interleaved, turning.scaling


def _attention(model: ModelConfig, call: str) -> Any:
    name, options = _call("model.attention", call)
    if "scale" in options:
        options["scale"] = options["scale"] or init.scheme(model).scale(model.head_dim)
    if "position" in options:
        options["position"] = _position(model, options["position"] or model.position)
    return name, options
