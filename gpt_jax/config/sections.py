"""The sections of a run's settings: the type and the limits of every knob."""

from dataclasses import dataclass
from typing import Annotated

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
    Texts,
)

Calls = str | tuple[str, ...]  # one "name(...)" or several
Axis = Annotated[Size, Or(-1, "the rest")]
STORED = ("model", "int8")  # what decoding keeps: in model.dtype, or quantised
DTYPES = ("float32", "bfloat16", "float16", "float64")
BEYOND = ("refuse", "roll", "reread")  # what becomes of a text that is longer than the context
WAYS = ("state", "roll", "windows")  # to read a text that is longer than the context
PACKS = ("concat", "segments", "padded")  # how documents and examples share rows
AS_LAYERS, UNROLLED = -1, 32  # model.scan that goes by the number of layers: more than these are scanned
MOST_UNROLLED = 256  # layers that may be compiled one by one: about a second each on a CPU
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
    scan: bool | Annotated[int, Limits(0, 4096), Or(AS_LAYERS, f"true beyond {UNROLLED} layers, else false")]
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
    template: str
    valid_fraction: Between
    pack: str
    seed: Seed
    cache: str


@dataclass(frozen=True)
class TuneConfig:
    start: str
    objective: str
    adapter: str
    reference: str
    reward: str | tuple
    samples: Texts
    updates: Count
    epochs: Count

    @property
    def rewards(self) -> tuple[str, ...]:
        """The calls of ``reward``, where it is one, or pairs of weights and calls."""
        if isinstance(self.reward, str):
            return (self.reward,) if self.reward else ()
        pairs = [pair for pair in self.reward if isinstance(pair, tuple) and len(pair) == 2]
        return tuple(call for _, call in pairs if isinstance(call, str))


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
    eval_stride: Natural
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
    tasks: tuple[str, ...]
    split: str
    batch: Annotated[Rows, Or(0, "train.batch")]
    batches: Natural
    stride: Natural


@dataclass(frozen=True)
class MeshConfig:
    data: Axis
    fsdp: Axis
    tensor: Axis
    context: Axis
    expert: Axis
    pipeline: Axis
    context_strategy: str
    rounds: Annotated[int, Limits(1, 64)]
    microbatches: Annotated[int, Limits(0, 2**16)]
    rules: str
    start_timeout: Count
    heartbeat_timeout: Count
    step_timeout: Positive
    phase_timeout: Positive


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
    num_beams: Texts
    num_beam_groups: Texts
    diversity_penalty: Factor
    length_penalty: Signed
    early_stopping: bool | str
    penalty_alpha: Share
    best_of: Texts
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
    templated: bool
    num_return_sequences: Texts
    stop_strings: str | tuple[str, ...]
    include_stop_str_in_output: bool
    stop_token_ids: tuple[int, ...]
    ignore_eos: bool
    logprobs: Natural
    prompt_logprobs: bool
    rows: Texts
