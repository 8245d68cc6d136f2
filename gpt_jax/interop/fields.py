"""How parts of a Hugging Face ``config.json`` map to knobs of ours, each both ways.

Reading fills ``knobs`` (names of ``ModelConfig`` -> values), in the order of the family's table. Writing says what it
can of a model; what it cannot say is found by reading back, so that no field has to look for it (``family``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.interop.settings import REQUIRED, Settings

Knobs = dict[str, Any]


class Field(Protocol):
    def read(self, given: Settings, knobs: Knobs) -> None:
        """Takes its settings and fills its knobs."""

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        """The inverse."""


def spell(name: str, options: Mapping[str, Any]) -> str:
    """A call as configs write it."""
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in options.items())})" if options else name


@dataclass(frozen=True)
class Same:
    """A knob and a setting with the same value; ``default`` may be a function of the knobs so far."""

    knob: str
    key: str
    default: Any = REQUIRED

    def read(self, given: Settings, knobs: Knobs) -> None:
        value = given.take(self.key, self.default)
        knobs[self.knob] = value(knobs) if callable(value) else value

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        out[self.key] = getattr(model, self.knob)


@dataclass(frozen=True)
class OrNothing:
    """A knob whose 0 is written null."""

    knob: str
    key: str
    default: float

    def read(self, given: Settings, knobs: Knobs) -> None:
        knobs[self.knob] = float(given.nullable(self.key, self.default))

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        out[self.key] = getattr(model, self.knob) or None


@dataclass(frozen=True)
class Always:
    """A knob that this family does not choose: a value, or a function of the knobs so far."""

    knob: str
    value: Any

    def read(self, given: Settings, knobs: Knobs) -> None:
        knobs[self.knob] = self.value(knobs) if callable(self.value) else self.value

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class Only:
    """A setting for which there is one value here, perhaps a function of the knobs so far; any other is refused."""

    key: str
    value: Any

    def read(self, given: Settings, knobs: Knobs) -> None:
        wanted = self.value(knobs) if callable(self.value) else self.value
        found = given.take(self.key, wanted)
        if found != wanted:
            raise given.refuse(self.key, found, repr(wanted))

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class Choice:
    """A knob that is one of a few calls, each with its spelling in the setting."""

    knob: str
    key: str
    spellings: Mapping[Any, str]
    default: Any = REQUIRED

    def read(self, given: Settings, knobs: Knobs) -> None:
        value = given.take(self.key, self.default)
        if value not in self.spellings:
            raise given.refuse(self.key, value, ", ".join(map(repr, self.spellings)))
        knobs[self.knob] = self.spellings[value]

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        name, _ = registry.parse(getattr(model, self.knob))
        spelling = next((s for s, call in self.spellings.items() if registry.parse(call)[0] == name), None)
        if spelling is not None:
            out[self.key] = spelling


@dataclass(frozen=True)
class Norm:
    """A norm and its epsilon."""

    name: str
    key: str
    default: float
    options: Mapping[str, Any] = field(default_factory=dict)

    def read(self, given: Settings, knobs: Knobs) -> None:
        knobs["norm"] = spell(self.name, {"eps": float(given.take(self.key, self.default)), **self.options})

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        _, options = registry.parse(model.norm)
        out[self.key] = options.get("eps", 1e-5)


@dataclass(frozen=True)
class Biases:
    """Which layers have biases: some always, some by a setting (setting -> (places, default))."""

    always: tuple[str, ...] = ()
    switches: Mapping[str, tuple[tuple[str, ...], bool]] = field(default_factory=dict)

    def read(self, given: Settings, knobs: Knobs) -> None:
        places = set(self.always)
        for key, (switched, default) in self.switches.items():
            places |= set(switched) if given.take(key, default) else set()
        knobs["bias"] = tuple(sorted(places))

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        for key, (switched, _) in self.switches.items():
            out[key] = any(model.biased(place) for place in switched)


@dataclass(frozen=True)
class Dropouts:
    """Settings that only matter in training: written, not read."""

    keys: tuple[str, ...]

    def read(self, given: Settings, knobs: Knobs) -> None:
        for key in self.keys:
            given.take(key, 0.0)

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        out.update(dict.fromkeys(self.keys, model.dropout))


@dataclass(frozen=True)
class WholeHeads:
    """A width that divides over the heads, though the head dim is another: ``transformers`` opens no other."""

    def read(self, given: Settings, knobs: Knobs) -> None:
        if knobs["width"] % knobs["heads"]:
            raise given.refuse("num_attention_heads", knobs["heads"], f"a divisor of the width {knobs['width']}")

    def write(self, model: ModelConfig, out: dict[str, Any]) -> None:
        pass


def per_head(knobs: Knobs) -> int:
    """The usual head dim."""
    return knobs["width"] // knobs["heads"]


def head_count(knobs: Knobs) -> int:
    return knobs["heads"]


def four_widths(knobs: Knobs) -> int:
    return 4 * knobs["width"]


def sizes(layers: str, width: str, heads: str, context: str) -> tuple[Field, ...]:
    """The sizes that every family has, by their names there."""
    pairs = {"layers": layers, "width": width, "heads": heads, "vocab": "vocab_size", "context": context}
    return tuple(Same(knob, key) for knob, key in pairs.items())


LLAMA_SIZES = sizes("num_hidden_layers", "hidden_size", "num_attention_heads", "max_position_embeddings")
MULTI_HEAD: tuple[Field, ...] = (Always("kv_heads", head_count), Always("head_dim", per_head))
GPT_SIZES = (*sizes("n_layer", "n_embd", "n_head", "n_positions"), *MULTI_HEAD)
UNSCALED: tuple[Field, ...] = (Always("embed_scale", 1.0), Always("logit_softcap", 0.0))
