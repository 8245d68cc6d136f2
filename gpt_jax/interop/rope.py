"""Rotary positions in a ``config.json``: ``rope_theta`` and ``rope_scaling``, or both in ``rope_parameters``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.interop.fields import Knobs, spell
from gpt_jax.interop.settings import Settings
from gpt_jax.model.position.rope import Rope as Turning
from gpt_jax.model.position.scaling import yarn_size

# Kind of scaling -> our field -> its setting.
SCALINGS: dict[str, dict[str, str]] = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "original": "original_max_position_embeddings",
        "low": "low_freq_factor",
        "high": "high_freq_factor",
    },
    "yarn": {
        "factor": "factor",
        "original": "original_max_position_embeddings",
        "low": "beta_slow",
        "high": "beta_fast",
        "truncate": "truncate",
        "size": "attention_factor",
    },
}
YARN_DEFAULTS = {"beta_slow": 1.0, "beta_fast": 32.0, "truncate": True, "attention_factor": 0.0}
TYPES = {"original": int, "truncate": bool}  # of the others: float
# Keys that any kind may have, and the values at which they change nothing.
NEUTRAL: dict[str, tuple] = {
    "factor": (1.0,),
    "attention_factor": (1.0,),
    "partial_rotary_factor": (1.0,),
    "finetuned": (True, False),
}
DYNAMIC = "remove rope_scaling: up to max_position_embeddings, the context of the run, it changes nothing"


def rotary(model: ModelConfig, call: str) -> Turning | None:
    """The position scheme that a call names, where that is rope."""
    name, _ = registry.parse(call)
    return registry.build("model.position", call, model, None) if name == "rope" else None


def rope_call(given: Settings, key: str, values: Mapping[str, Any], context: int, options: dict[str, Any]) -> str:
    """``rope(…)`` with the scaling that ``values``, found under ``key``, ask for."""
    kind = _or(values.get("rope_type"), _or(values.get("type"), "default"))
    # Some configurations have it beside the others (Phi 3's way), where it comes first.
    original = given.take("original_max_position_embeddings", values.get("original_max_position_embeddings"))
    values = {**values, "original_max_position_embeddings": original}
    if kind == "yarn":
        values = _yarn(values, context)
    if kind != "default":
        if kind not in SCALINGS:
            allowed = f"default, {', '.join(SCALINGS)}"
            raise given.refuse(f"{key}.rope_type", kind, allowed, DYNAMIC if kind == "dynamic" else "")
        defaults = {"original_max_position_embeddings": context, **(YARN_DEFAULTS if kind == "yarn" else {})}
        scaling = {ours: _or(values.get(theirs), defaults.get(theirs)) for ours, theirs in SCALINGS[kind].items()}
        for ours, theirs in SCALINGS[kind].items():
            if scaling[ours] is None:
                raise given.refuse(f"{key}.{theirs}", None, "a number")
        options = {**options, "scaling": {"kind": kind, **_numbers(scaling)}}
    known = {"rope_type", "type", "original_max_position_embeddings", *SCALINGS.get(kind, {}).values()}
    for name, value in values.items():
        if name not in known and value is not None and value not in NEUTRAL.get(name, ()):
            raise given.refuse(
                f"{key}.{name}", value, ", ".join(map(str, NEUTRAL.get(name, ("null, or no such key",))))
            )
    return spell("rope", options)


def _yarn(values: dict[str, Any], context: int) -> dict[str, Any]:
    """Yarn's settings with its ``factor`` and ``attention_factor`` as numbers, as transformers derives them."""
    values = dict(values)
    original = _or(values["original_max_position_embeddings"], context)
    values["factor"] = _or(values.get("factor"), context / original)
    above, below = values.pop("mscale", None), values.pop("mscale_all_dim", None)
    if above and below and values.get("attention_factor") is None:  # one of them alone is not read
        values["attention_factor"] = yarn_size(values["factor"], above) / yarn_size(values["factor"], below)
    return values


def scaling_of(turning: Turning) -> dict[str, Any] | None:
    """The value of ``rope_scaling``."""
    values = asdict(turning.scaling)
    kind = values["kind"]
    if kind not in SCALINGS:
        return None
    found = {theirs: values[ours] for ours, theirs in SCALINGS[kind].items()}
    if not found.get("attention_factor"):
        found.pop("attention_factor", None)
    return {"rope_type": kind, **found}


@dataclass(frozen=True)
class Rope:
    """``model.position`` where it is rope.

    Args:
      theta_key, theta: the setting of the base, and its default.
      fraction_key, fraction: that of the share of channels that turn; families without it turn all.
    """

    theta_key: str = "rope_theta"
    theta: float = 10000.0
    fraction_key: str = ""
    fraction: float = 1.0

    def read(self, given: Settings, knobs: Knobs) -> None:
        scaling = given.take("rope_scaling", {})
        values = dict(given.take("rope_parameters", {}))
        values = dict(scaling) if scaling else values  # as transformers has it
        options: dict[str, Any] = {"theta": float(_first(values, "rope_theta", given.take(self.theta_key, self.theta)))}
        if self.fraction_key:
            share = _first(values, "partial_rotary_factor", given.take(self.fraction_key, self.fraction))
            options["fraction"] = int(knobs["head_dim"] * share) / knobs["head_dim"]
        key = "rope_scaling" if scaling else "rope_parameters"
        knobs["position"] = rope_call(given, key, values, knobs["context"], options)

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        turning = rotary(model, model.position)
        if turning is not None:
            out[self.theta_key] = turning.theta
            out["rope_scaling"] = scaling_of(turning)
            if self.fraction_key:
                out[self.fraction_key] = turning.fraction


@dataclass(frozen=True)
class RotaryDim:
    """GPT-J's: so many channels turn, in neighbouring pairs."""

    key: str = "rotary_dim"

    def read(self, given: Settings, knobs: Knobs) -> None:
        share = given.take(self.key) / knobs["head_dim"]
        knobs["position"] = spell("rope", {"fraction": share, "interleaved": True})

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        turning = rotary(model, model.position)
        out[self.key] = 2 if turning is None else turning.channels(model.head_dim)


@dataclass(frozen=True)
class TwoRopes:
    """Gemma 3's: local layers have a base of their own, and no scaling. Stands after ``Attention``."""

    theta: float = 1_000_000.0
    local_theta: float = 10_000.0

    def read(self, given: Settings, knobs: Knobs) -> None:
        parameters, scaling = given.take("rope_parameters", {}), given.take("rope_scaling", {})
        whole = dict(parameters.get("full_attention", {}))
        if scaling:
            whole = {name: value for name, value in whole.items() if name != "rope_type"} | scaling
        local = dict(parameters.get("sliding_attention", {}))
        for name in parameters.keys() - {"full_attention", "sliding_attention"}:
            raise given.refuse(f"rope_parameters.{name}", parameters[name], "full_attention, sliding_attention")
        theta = _first(whole, "rope_theta", given.take("rope_theta", self.theta))
        local_theta = _first(local, "rope_theta", given.take("rope_local_base_freq", self.local_theta))
        context = knobs["context"]
        knobs["position"] = rope_call(given, "rope_parameters", whole, context, {"theta": float(theta)})
        own = rope_call(given, "rope_parameters", local, context, {"theta": float(local_theta)})
        knobs["attention"] = tuple(_with_position(call, own) for call in knobs["attention"])

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        turning = rotary(model, model.position)
        if turning is not None:
            out |= {"rope_theta": turning.theta, "rope_scaling": scaling_of(turning)}
        for call in model.attentions:
            name, options = registry.parse(call)
            if name == "sliding":
                own = rotary(model, options.get("position") or model.position)
                if own is not None:
                    out["rope_local_base_freq"] = own.theta


def _with_position(call: str, position: str) -> str:
    name, options = registry.parse(call)
    return spell(name, {**options, "position": position}) if name == "sliding" else call


def _first(values: dict[str, Any], key: str, default: Any) -> Any:
    return _or(values.pop(key, None), default)


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: TYPES.get(name, float)(value) for name, value in values.items()}
    return {name: value for name, value in found.items() if name != "size" or value}


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
