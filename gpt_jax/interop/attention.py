"""Which layers see how far, and what their scores go through, in a ``config.json``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.interop.fields import Knobs, spell
from gpt_jax.interop.settings import Settings

TYPES = {"full_attention": "full", "sliding_attention": "sliding"}
Slides = Callable[[Settings, int, int], list[bool]]  # (settings, layers, window) -> which layers have it by default


def never(given: Settings, layers: int, window: int) -> list[bool]:
    """Every layer sees everything; a window may be given that is switched off."""
    if given.take("use_sliding_window", None) is False:
        given.take("sliding_window", None)
        given.take("max_window_layers", None)
    return [False] * layers


def always(given: Settings, layers: int, window: int) -> list[bool]:
    """Every layer has the window, where there is one (Mistral)."""
    return [window > 0] * layers


def upper(given: Settings, layers: int, window: int) -> list[bool]:
    """Layers from ``max_window_layers`` on, where ``use_sliding_window`` says so (Qwen)."""
    first, used = given.take("max_window_layers", 28), given.take("use_sliding_window", False)
    return [bool(used and window) and i >= first for i in range(layers)]


def all_but_every(period: int, key: str = "") -> Slides:
    """All but every so many-th (Gemma); ``key`` may set the number."""

    def slides(given: Settings, layers: int, window: int) -> list[bool]:
        n = given.take(key, period) if key else period
        return [(i + 1) % n > 0 for i in range(layers)]

    return slides


@dataclass(frozen=True)
class Attention:
    """``model.attention``: a cycle of "full" and "sliding" with the same options.

    Args:
      slides: which layers have a window where ``layer_types`` does not say.
      listed: whether the family has ``layer_types``.
      options: those that it always has.
      scale: the setting s of a scale s^(-1/2) of the scores, and its default; empty where it is the head dim.
      softcap: the setting of the cap of the scores, and its default; empty where there is none.
      window: the default of ``sliding_window``.
    """

    slides: Slides = never
    listed: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    scale: tuple[str, int] | None = None
    softcap: tuple[str, float] | None = None
    window: int = 4096

    def read(self, given: Settings, knobs: Knobs) -> None:
        options = dict(self.options)
        if self.softcap:
            key, default = self.softcap
            cap = given.nullable(key, default)
            options |= {"softcap": float(cap)} if cap else {}
        if self.scale:
            squared = given.take(*self.scale)
            options |= {"scale": squared**-0.5} if squared != knobs["head_dim"] else {}
        window = 0 if self.slides is never else given.nullable("sliding_window", self.window)
        near, far = spell("sliding", {"window": window, **options}), spell("full", options)
        knobs["attention"] = shortest_cycle([near if slides else far for slides in self._layers(given, knobs, window)])

    def _layers(self, given: Settings, knobs: Knobs, window: int) -> list[bool]:
        default = self.slides(given, knobs["layers"], window)
        listed = given.take("layer_types", [])
        for name in listed:
            if name not in TYPES:
                raise given.refuse("layer_types", name, ", ".join(TYPES))
        if listed and len(listed) != len(default):
            raise given.refuse("layer_types", listed, f"one type for each of {len(default)} layers")
        found = [TYPES[name] == "sliding" for name in listed] or default
        if not self.listed and found != default:
            raise given.refuse("layer_types", listed, "the window of sliding_window in every layer, or in none")
        return found

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        calls = [registry.parse(model.attentions[i % len(model.attentions)]) for i in range(model.layers)]
        windows = [options["window"] for name, options in calls if name == "sliding"]
        if self.slides is not never:
            out["sliding_window"] = windows[0] if windows else None
        if self.slides is upper:
            out |= {"use_sliding_window": bool(windows), "max_window_layers": model.layers}
        if self.listed:
            out["layer_types"] = ["sliding_attention" if name == "sliding" else "full_attention" for name, _ in calls]
        _, options = calls[0]
        if self.softcap:
            out[self.softcap[0]] = options.get("softcap") or None
        if self.scale:
            out[self.scale[0]] = round(options["scale"] ** -2) if options.get("scale") else model.head_dim


def shortest_cycle(calls: list[str]) -> tuple[str, ...]:
    """The shortest list that, repeated, gives these."""
    period = next(p for p in range(1, len(calls) + 1) if calls[:p] * (len(calls) // p) == calls)
    return tuple(calls[:period])
