"""A run's settings: read from a ConfigDict or JSON into frozen, checked dataclasses.

Defaults, units and reasons stand in ``configs/base.py`` alone; here are the types and the limits.
"""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from typing import Any

from gpt_jax import registry
from gpt_jax.errors import UserError, did_you_mean

Calls = str | tuple  # one "name(...)" or several
BIASES = ("qkv", "out", "mlp", "norm", "readout", "router")  # what model.bias may name; true = the first four


@dataclass(frozen=True)
class ModelConfig:
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    vocab: int
    context: int
    attention: Calls
    attend: str
    position: str
    norm: str
    mlp: str
    block: str
    tied: bool
    bias: bool | tuple
    embed_scale: float
    logit_softcap: float
    dropout: float
    init: str
    dtype: str
    scan: bool | int
    remat: str

    @property
    def attentions(self) -> tuple[str, ...]:
        """The cycle of attention mechanisms over layers."""
        return (self.attention,) if isinstance(self.attention, str) else self.attention

    def biased(self, place: str) -> bool:
        """Whether linear layers (or norms) of a place have biases; those outside ``BIASES`` never do."""
        return place in (self.bias if isinstance(self.bias, tuple) else BIASES[:4] if self.bias else ())


@dataclass(frozen=True)
class DataConfig:
    source: Calls
    tokenizer: str
    valid_fraction: float
    pack: str
    seed: int
    cache: str


@dataclass(frozen=True)
class OptimConfig:
    optimizer: str
    lr: float
    schedule: str
    warmup: int
    weight_decay: float
    clip: float
    ema: float
    groups: tuple


@dataclass(frozen=True)
class TrainConfig:
    steps: int
    batch: int
    accumulate: int
    seed: int
    z_loss: float
    loss_chunk: int
    log_every: int
    eval_every: int
    eval_batches: int
    save_every: int
    keep: int
    keep_best: bool
    on_nonfinite: str
    watch_every: int
    profile: tuple
    tensorboard: bool
    wandb: str


@dataclass(frozen=True)
class EvalConfig:
    split: str
    batch: int
    batches: int


@dataclass(frozen=True)
class MeshConfig:
    data: int
    fsdp: int
    tensor: int
    context: int
    expert: int
    pipeline: int
    rules: str


@dataclass(frozen=True)
class SampleConfig:
    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    prompts: tuple


@dataclass(frozen=True)
class Config:
    """The complete settings of a run; ``from_dict`` is the only way in."""

    model: ModelConfig
    data: DataConfig
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
        config = _section(Config, values, "config")
        config = dataclasses.replace(config, model=_fill_sizes(config.model))
        for key, ok, allowed in _limits(config):
            if not ok:
                raise UserError(
                    f"{key} = {value_at(config, key)!r} is out of range", where=f"config.{key}", allowed=allowed
                )
        for kind, key, calls in _named(config):
            for call in calls:
                name, _ = registry.parse(call, where=f"config.{key}", kind=kind)
                registry.lookup(kind, name, where=f"config.{key}")
        return config

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "Config":
        return Config.from_dict(json.loads(text))


def value_at(config: Config, key: str) -> Any:
    """The value at a dotted key such as "model.width"."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def flatten(config: Config) -> dict[str, Any]:
    """Dotted key -> value, for every knob."""
    sections = config.to_dict().items()
    return {f"{section}.{key}": value for section, knobs in sections for key, value in knobs.items()}


def _section(cls: Any, values: typing.Mapping[str, Any], where: str) -> Any:
    types_ = typing.get_type_hints(cls)
    for key in values:
        if key not in types_:
            raise UserError(
                f"there is no key {key!r} in {where}",
                where=f"{where}.{key}",
                allowed=", ".join(types_),
                fix=did_you_mean(key, types_),
            )
    missing = [key for key in types_ if key not in values]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}", where=where, fix="start from configs/base.py")
    return cls(**{key: _typed(values[key], types_[key], f"{where}.{key}") for key in types_})


def _typed(value: Any, want: Any, where: str) -> Any:
    if dataclasses.is_dataclass(want):
        return _section(want, value, where)
    options = typing.get_args(want) if isinstance(want, types.UnionType) else (want,)
    if isinstance(value, list | tuple):
        value = _tuples(value)
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, options) or (isinstance(value, bool) and bool not in options):
        names = " or ".join(t.__name__ for t in options)
        given, article = type(value).__name__, "an" if names.startswith("i") else "a"
        raise UserError(f"{where} = {value!r} has the type {given}", where=where, allowed=f"{article} {names}")
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


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
    )


def _limits(c: Config) -> list[tuple[str, bool, str]]:
    """(key, whether its value is allowed, what is): the checks that need nothing but the config."""
    m, t, o, p = c.model, c.train, c.optim, c.sample
    positive = ["model.layers", "model.width", "model.heads", "model.context", "train.steps", "train.batch"]
    positive += ["train.accumulate", "train.log_every", "train.eval_every", "train.save_every", "train.keep"]
    natural = ["model.vocab", "train.seed", "train.eval_batches", "train.loss_chunk", "train.watch_every", "data.seed"]
    natural += ["optim.warmup", "eval.batch", "eval.batches", "sample.top_k", "sample.seed", "sample.max_new_tokens"]
    axes = [f"mesh.{f.name}" for f in dataclasses.fields(MeshConfig) if f.name != "rules"]
    windows = isinstance(t.profile, tuple) and (
        not t.profile or len(t.profile) == 2 and 0 <= t.profile[0] < t.profile[1]
    )
    return [
        *((key, value_at(c, key) >= 1, "1 or more") for key in positive),
        *((key, value_at(c, key) >= 0, "0 or more") for key in natural),
        *((key, value_at(c, key) >= 1 or value_at(c, key) == -1, "1 or more, or -1 for the rest") for key in axes),
        ("model.kv_heads", m.kv_heads >= 1 and m.heads % m.kv_heads == 0, f"a divisor of model.heads = {m.heads}"),
        (
            "model.layers",
            m.layers % len(m.attentions) == 0,
            f"a multiple of the {len(m.attentions)} mechanisms of model.attention",
        ),
        ("model.bias", isinstance(m.bias, bool) or set(m.bias) <= set(BIASES), f"true, false, or some of {BIASES}"),
        ("model.embed_scale", m.embed_scale > 0, "above 0"),
        ("model.logit_softcap", m.logit_softcap >= 0, "0 (none) or more"),
        ("model.dropout", 0 <= m.dropout < 1, "0 up to, not including, 1"),
        (
            "model.dtype",
            m.dtype in ("float32", "bfloat16", "float16", "float64"),
            "float32, bfloat16, float16, float64",
        ),
        ("model.scan", m.scan >= 0, "true, false, or how many layers a turn of the scan computes"),
        ("model.remat", m.remat in ("none", "full", "dots"), "none, full, dots"),
        ("data.valid_fraction", 0 < c.data.valid_fraction < 1, "between 0 and 1"),
        ("data.pack", c.data.pack in ("concat", "segments"), "concat, segments"),
        ("optim.lr", o.lr > 0, "above 0"),
        ("optim.weight_decay", o.weight_decay >= 0, "0 or more"),
        ("optim.clip", o.clip >= 0, "0 or more"),
        ("optim.ema", 0 <= o.ema < 1, "0 up to, not including, 1"),
        ("train.batch", t.batch % t.accumulate == 0, f"a multiple of train.accumulate = {t.accumulate}"),
        ("train.z_loss", t.z_loss >= 0, "0 or more"),
        ("train.on_nonfinite", t.on_nonfinite in ("stop", "skip"), "stop, skip"),
        ("train.profile", windows, "(first, last) with 0 <= first < last, or ()"),
        ("eval.split", c.eval.split in ("train", "valid"), "train, valid"),
        ("sample.temperature", p.temperature >= 0, "0 (greedy) or more"),
        ("sample.top_p", 0 < p.top_p <= 1, "above 0, up to 1"),
    ]


def _named(c: Config) -> list[tuple[str, str, tuple[str, ...]]]:
    """(kind, key, calls): the knobs that name a registered variant."""
    return [
        ("model.attention", "model.attention", c.model.attentions),
        ("model.attend", "model.attend", (c.model.attend,)),
        ("model.position", "model.position", (c.model.position,)),
        ("model.norm", "model.norm", (c.model.norm,)),
        ("model.mlp", "model.mlp", (c.model.mlp,)),
        ("model.block", "model.block", (c.model.block,)),
        ("model.init", "model.init", (c.model.init,)),
        ("train.optimizers", "optim.optimizer", (c.optim.optimizer,)),
        ("train.schedules", "optim.schedule", (c.optim.schedule,)),
    ]
