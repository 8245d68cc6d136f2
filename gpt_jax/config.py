"""A run's settings: read from a ConfigDict or JSON into frozen, checked dataclasses.

Defaults, units and reasons stand in ``configs/base.py`` alone; here are the types and the limits.
"""

import dataclasses
import functools
import json
import typing
from dataclasses import dataclass
from typing import Annotated, Any

from gpt_jax import limits, registry
from gpt_jax.errors import UserError
from gpt_jax.limits import (
    Between,
    Count,
    Decay,
    Factor,
    Heads,
    Limits,
    Natural,
    Or,
    Positive,
    Rows,
    Seed,
    Share,
    Signed,
    Size,
    section,
)

Calls = str | tuple[str, ...]  # one "name(...)" or several
Axis = Annotated[Size, Or(-1, "the rest")]
STORED = ("model", "int8")  # what decoding keeps: in model.dtype, or quantised
DTYPES = ("float32", "bfloat16", "float16", "float64")
BEYOND = ("refuse", "roll", "reread")  # what becomes of a text that is longer than the context
UNROLLED = 256  # layers that are compiled one by one, at most: each takes a tenth of a second to trace
BIASES = ("qkv", "out", "mlp", "norm", "readout", "router")  # what model.bias may name; true = the first four


@dataclass(frozen=True)
class ModelConfig:
    layers: Annotated[int, Limits(1, 4096)]
    width: Size
    heads: Heads
    kv_heads: Annotated[Heads, Or(0, "model.heads")]
    head_dim: Annotated[Heads, Or(0, "width / heads")]
    mlp_width: Annotated[Rows, Or(0, "4 * width")]
    vocab: Annotated[Rows, Or(0, "the tokenizer's size")]
    context: Rows
    attention: Calls
    attend: str
    position: str
    norm: str
    mlp: str
    block: str
    tied: bool
    bias: bool | tuple[str, ...]
    embed_scale: Positive
    logit_softcap: Annotated[Positive, Or(0, "off")]
    dropout: Decay
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
    source: str | tuple
    tokenizer: str
    valid_fraction: Between
    pack: str
    seed: Seed
    cache: str


@dataclass(frozen=True)
class OptimConfig:
    optimizer: str
    lr: Positive
    schedule: str
    warmup: Natural
    weight_decay: Factor
    clip: Annotated[Positive, Or(0, "off")]
    ema: Decay
    groups: tuple


@dataclass(frozen=True)
class TrainConfig:
    steps: Count
    batch: Rows
    accumulate: Rows
    seed: Seed
    z_loss: Factor
    loss_chunk: Natural
    log_every: Count
    eval_every: Count
    eval_batches: Natural
    save_every: Count
    keep: Count
    keep_best: bool
    on_nonfinite: str
    watch_every: Natural
    profile: tuple[int, ...]
    tensorboard: bool
    wandb: str


@dataclass(frozen=True)
class EvalConfig:
    split: str
    batch: Annotated[Rows, Or(0, "train.batch")]
    batches: Natural


@dataclass(frozen=True)
class MeshConfig:
    data: Axis
    fsdp: Axis
    tensor: Axis
    context: Axis
    expert: Axis
    pipeline: Axis
    rules: str


@dataclass(frozen=True)
class SampleConfig:
    max_new_tokens: Annotated[Rows, Or(0, "none")]
    temperature: Annotated[Positive, Or(0, "greedy")]
    top_k: Natural
    top_p: Annotated[float, Limits(0, 1, above=True)]
    min_p: Share
    typical_p: Annotated[float, Limits(0, 1, above=True)]
    epsilon_cutoff: Decay
    eta_cutoff: Decay
    repetition_penalty: Positive
    presence_penalty: Signed
    frequency_penalty: Signed
    no_repeat_ngram_size: Natural
    min_new_tokens: Natural
    exponential_decay_length_penalty: tuple[float, ...]
    logit_bias: tuple
    bad_words: tuple
    allowed_words: tuple
    suppress_tokens: tuple
    guidance_scale: Signed
    negative_prompt: str
    num_beams: Rows
    num_beam_groups: Rows
    diversity_penalty: Factor
    length_penalty: Signed
    early_stopping: bool | str
    penalty_alpha: Share
    best_of: Rows
    exact_nodes: Natural
    processors: tuple[str, ...]
    order: str
    beyond_context: str
    draft: str
    draft_layers: Natural
    prompt_lookup_num_tokens: Annotated[int, Limits(0, 256)]
    max_matching_ngram_size: Annotated[int, Limits(1, 64)]
    num_assistant_tokens: Annotated[int, Limits(1, 256)]
    cache: str
    weights: str
    seed: Seed
    prompts: tuple[str, ...]
    num_return_sequences: Rows
    stop_strings: str | tuple[str, ...]
    include_stop_str_in_output: bool
    stop_token_ids: tuple[int, ...]
    ignore_eos: bool
    logprobs: Natural
    prompt_logprobs: bool
    rows: Annotated[int, Limits(1, 2**16)]


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
    )


def _limits(c: Config) -> list[tuple[str, bool, str]]:
    """(key, whether its value is allowed, what is): the checks of what annotations do not say."""
    m, t, period = c.model, c.train, len(c.model.attentions)
    window = not t.profile or len(t.profile) == 2 and 0 <= t.profile[0] < t.profile[1] <= limits.LARGEST
    return [
        ("model.kv_heads", m.kv_heads >= 1 and m.heads % m.kv_heads == 0, f"a divisor of model.heads = {m.heads}"),
        ("model.layers", m.layers % period == 0, f"a multiple of the {period} mechanisms of model.attention"),
        ("model.layers", (period if m.scan else m.layers) <= UNROLLED, f"1 to {UNROLLED}; more with model.scan = true"),
        ("model.bias", isinstance(m.bias, bool) or set(m.bias) <= set(BIASES), f"true, false, or some of {BIASES}"),
        ("model.dtype", m.dtype in DTYPES, ", ".join(DTYPES)),
        ("model.scan", m.scan >= 0, "true, false, or how many layers a turn of the scan computes"),
        ("model.remat", m.remat in ("none", "full", "dots"), "none, full, dots"),
        ("data.pack", c.data.pack in ("concat", "segments"), "concat, segments"),
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
    parts = ("attend", "position", "norm", "mlp", "block", "init")
    return [
        ("model.attention", "model.attention", c.model.attentions),
        *((f"model.{part}", f"model.{part}", (getattr(c.model, part),)) for part in parts),
        ("train.optimizers", "optim.optimizer", (c.optim.optimizer,)),
        ("train.schedules", "optim.schedule", (c.optim.schedule,)),
    ]
