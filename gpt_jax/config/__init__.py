"""A run's settings: read from a ConfigDict or JSON into frozen, checked dataclasses.

Defaults, units and reasons stand in ``configs/base.py`` alone; here are the checks that span several knobs, and in
``sections`` the types and limits of each.
"""

import dataclasses
import functools
import json
import typing
from dataclasses import dataclass
from typing import Any

from gpt_jax import limits, registry
from gpt_jax.config.sections import (
    AS_LAYERS,
    BEYOND,
    BIASES,
    DTYPES,
    MOST_UNROLLED,
    PACKS,
    STORED,
    UNROLLED,
    DataConfig,
    EvalConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    SampleConfig,
    TrainConfig,
    TuneConfig,
)
from gpt_jax.errors import UserError
from gpt_jax.limits import section

__all__ = [
    "Config",
    "DataConfig",
    "EvalConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimConfig",
    "SampleConfig",
    "TrainConfig",
    "TuneConfig",
    "flatten",
    "typed",
    "value_at",
]


@dataclass(frozen=True)
class Config:
    """The complete settings of a run; ``from_dict`` is the only way in."""

    model: ModelConfig
    data: DataConfig
    tune: TuneConfig
    optim: OptimConfig
    train: TrainConfig
    eval: EvalConfig
    mesh: MeshConfig
    sample: SampleConfig

    @staticmethod
    def from_dict(values: typing.Mapping[str, Any]) -> "Config":
        """Reads a nested mapping (a ConfigDict, or parsed JSON), fills derived sizes and checks every value.

        Raises:
          UserError: a key is unknown or missing, a type is wrong, or a value is out of its limits.
        """
        config = typed(values)
        config = dataclasses.replace(config, model=_fill_sizes(config.model))
        for key, ok, allowed in _limits(config):
            if not ok:
                raise UserError(
                    f"{key} = {value_at(config, key)!r} is out of range", where=f"config.{key}", allowed=allowed
                )
        for kind, key, calls in _named(config):
            for call in calls:
                registry.check(kind, call, where=f"config.{key}")
        return config

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "Config":
        return Config.from_dict(json.loads(text))


def typed(values: typing.Mapping[str, Any]) -> Config:
    """Settings of which every one is known, of its type and within its own limits, or a ``UserError``."""
    return section(Config, values, "config")


def value_at(config: Config, key: str) -> Any:
    """The value at a dotted key such as "model.width"."""
    return functools.reduce(getattr, key.split("."), config)


def flatten(config: Config) -> dict[str, Any]:
    """Dotted key -> value, for every knob."""
    sections = config.to_dict().items()
    return {f"{section}.{key}": value for section, knobs in sections for key, value in knobs.items()}


def _fill_sizes(m: ModelConfig) -> ModelConfig:
    if not m.head_dim and m.heads > 0 and m.width % m.heads:
        raise UserError(
            f"model.width = {m.width} does not divide over model.heads = {m.heads}",
            where="config.model.heads",
            allowed=f"a divisor of {m.width}, or set model.head_dim",
        )
    return dataclasses.replace(
        m,
        kv_heads=m.kv_heads or m.heads,
        head_dim=m.head_dim or m.width // max(m.heads, 1),
        mlp_width=m.mlp_width or 4 * m.width,
        scan=m.layers > UNROLLED if m.scan == AS_LAYERS else m.scan,
    )


def _limits(c: Config) -> list[tuple[str, bool, str]]:
    """(key, whether its value is allowed, what is): the checks of what annotations do not say."""
    m, t, period = c.model, c.train, len(c.model.attentions) or 1
    window = not t.profile or len(t.profile) == 2 and 0 <= t.profile[0] < t.profile[1] <= limits.LARGEST
    return [
        ("model.attention", bool(m.attentions), "a mechanism, or several that take turns"),
        ("model.kv_heads", m.kv_heads >= 1 and m.heads % m.kv_heads == 0, f"a divisor of model.heads = {m.heads}"),
        ("model.layers", m.layers % period == 0, f"a multiple of the {period} mechanisms of model.attention"),
        ("model.layers", (period if m.scan else m.layers) <= MOST_UNROLLED, f"1 to {MOST_UNROLLED}; more if scanned"),
        ("model.bias", isinstance(m.bias, bool) or set(m.bias) <= set(BIASES), f"true, false, or some of {BIASES}"),
        ("model.dtype", m.dtype in DTYPES, ", ".join(DTYPES)),
        ("data.pack", c.data.pack in PACKS, ", ".join(PACKS)),
        ("train.batch", t.batch % t.accumulate == 0, f"a multiple of train.accumulate = {t.accumulate}"),
        ("train.on_nonfinite", t.on_nonfinite in ("stop", "skip"), "stop, skip"),
        ("train.profile", window, "(first, last) with 0 <= first < last, or ()"),
        ("sample.beyond_context", c.sample.beyond_context in BEYOND, ", ".join(BEYOND)),
        ("sample.cache", c.sample.cache in STORED, ", ".join(STORED)),
        ("sample.weights", c.sample.weights in STORED, ", ".join(STORED)),
        ("eval.split", c.eval.split in ("train", "valid"), "train, valid"),
    ]


def _named(c: Config) -> list[tuple[str, str, tuple[str, ...]]]:
    """(kind, key, calls): the knobs that name a registered variant."""
    parts = ("attend", "position", "norm", "mlp", "block", "init", "remat")
    return [
        ("model.attention", "model.attention", c.model.attentions),
        *((f"model.{part}", f"model.{part}", (getattr(c.model, part),)) for part in parts),
        ("data.templates", "data.template", (c.data.template,)),
        ("train.objectives", "tune.objective", (c.tune.objective,)),
        ("train.adapters", "tune.adapter", (c.tune.adapter,)),
        ("train.rewards", "tune.reward", c.tune.rewards),
        ("judge.tasks", "eval.tasks", c.eval.tasks),
        ("train.optimizers", "optim.optimizer", (c.optim.optimizer,)),
        ("train.schedules", "optim.schedule", (c.optim.schedule,)),
    ]
