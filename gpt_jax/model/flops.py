"""Counts by convention: parameters, FLOPs per token, and the peak rate that model FLOPs utilisation (MFU) is a share of.

MFU here is tokens/s x FLOPs/token / peak, FLOPs/token by the convention "nanogpt" unless another is named: 6 per
parameter that is multiplied (readout counted, embedding lookup not) plus 12 L N H T for attention, whose scores are
counted whole, as if there were no causal mask, and whose windows are not taken into account. Recomputation (remat) never
counts. The peak is the chip's published dense bf16 rate whatever dtype the run uses, and on a CPU the measured rate of
fp32 matrix products.
"""

import math
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters.

    Args:
      total: all of them.
      non_embedding: without the token table, the position table and an untied readout (Kaplan et al. 2020, Pythia).
      lookup: of tables that are only read by index: positions, and the token table where the readout is untied.
      matmul: that multiply every token: the weights of linear layers and the readout.
    """

    total: int
    non_embedding: int
    lookup: int
    matmul: int


# What a variant adds, in the units named. A variant that is not here is counted from its parameters, by ``count``.
_POSITION_TABLES = {"learned": 1, "none": 0, "rope": 0, "alibi": 0}  # tables of [T, D]
_NORM_SCALES = {"layernorm": 1, "rmsnorm": 1}  # vectors of [D], beside the bias
_NORM_BIASES = {"layernorm": 1, "rmsnorm": 0}  # vectors of [D], where config.bias
_MLP_UPS = {"gelu": 1, "relu": 1, "swiglu": 2}  # matrices of [D, F], beside the one of [F, D]
_FINAL_NORMS = {"pre": 1, "post": 0}
_ATTENTIONS = {"full": 1}


def parameters(config: ModelConfig) -> Parameters:
    """The closed form, for decoders of full attention whose parts are in the tables above.

    Raises:
      UserError: the vocabulary is not set, or a part has no closed form here.
    """
    c = config
    if c.vocab < 1:
        raise UserError("the size of the vocabulary is not known", where="config.model.vocab", allowed="1 or more")
    for call in c.attentions:
        _part(_ATTENTIONS, "attention", call)
    ups, final_norms = _part(_MLP_UPS, "mlp", c.mlp), _part(_FINAL_NORMS, "block", c.block)
    norm = c.width * (_part(_NORM_SCALES, "norm", c.norm) + c.bias * _part(_NORM_BIASES, "norm", c.norm))
    queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
    weights = c.width * (2 * queries + 2 * keys) + (ups + 1) * c.width * c.mlp_width
    biases = c.bias * (queries + 2 * keys + c.width + ups * c.mlp_width + c.width)
    non_embedding = c.layers * (weights + biases + 2 * norm) + final_norms * norm
    tokens, positions = c.vocab * c.width, _part(_POSITION_TABLES, "position", c.position) * c.context * c.width
    untied = 0 if c.tied else tokens
    return Parameters(
        total=non_embedding + tokens + positions + untied,
        non_embedding=non_embedding,
        lookup=positions + untied,
        matmul=c.layers * weights + tokens,
    )


def _part(table: Mapping[str, int], key: str, call: str) -> int:
    name, _ = registry.parse(call, where=f"config.model.{key}")
    if name not in table:
        raise UserError(
            f"there is no closed form for the parameters of {name!r}",
            where=f"config.model.{key}",
            allowed=", ".join(table),
            fix="count the model's own parameters with gpt_jax.model.flops.count",
        )
    return table[name]


def count(params: Mapping[str, Any]) -> Parameters:
    """The same numbers from the parameters themselves (arrays or shapes; stacked or not), for any variant.

    Leaves below "embed" are tables, "readout" is the untied readout, and any other leaf called "w" is multiplied.
    """
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    sizes = {tuple(str(key.key) for key in path): math.prod(leaf.shape) for path, leaf in leaves}
    total = sum(sizes.values())
    tables = sum(size for path, size in sizes.items() if path[0] == "embed")
    tokens = sum(size for path, size in sizes.items() if path[:2] == ("embed", "tokens"))
    readout = sum(size for path, size in sizes.items() if path[0] == "readout")
    linear = sum(size for path, size in sizes.items() if path[-1] == "w" and path[0] != "embed")
    tied = tokens if "readout" not in params else 0
    return Parameters(total=total, non_embedding=total - tables - readout, lookup=tables - tied, matmul=linear + tied)


def _attention(config: ModelConfig, context: float) -> float:
    """Forward and backward FLOPs per token of q k' and p v, each token attending to ``context`` others."""
    return 12 * config.layers * config.heads * config.head_dim * context


# Training FLOPs per token (forward and backward; a third of it is the forward pass).
CONVENTIONS = {
    # Every parameter that is multiplied, and whole attention: nanoGPT's transformer_sizing.ipynb.
    "nanogpt": lambda n, config, context: 6 * n.matmul + _attention(config, context),
    # The same with norms and biases counted as if they were multiplied: PaLM (2022), appendix B.
    "palm": lambda n, config, context: 6 * (n.total - n.lookup) + _attention(config, context),
    # The half of attention that a causal mask keeps, the diagonal included.
    "causal": lambda n, config, context: 6 * n.matmul + _attention(config, (context + 1) / 2),
    # C = 6 N D with all parameters: Hoffmann et al. (2022); the training compute of GPT-3's appendix D.
    "6n": lambda n, config, context: 6 * n.total,
    # C = 6 N D with non-embedding parameters: Kaplan et al. (2020).
    "kaplan": lambda n, config, context: 6 * n.non_embedding,
}


def flops_per_token(config: ModelConfig, context: int, convention: str, counts: Parameters | None = None) -> float:
    """Training FLOPs per token of sequences of ``context`` tokens, by a name in ``CONVENTIONS``.

    Args:
      counts: ``count(params)`` for a model that has no closed form; None = ``parameters(config)``.

    Raises:
      UserError: no such convention, or no closed form.
    """
    if convention not in CONVENTIONS:
        raise UserError(
            f"there is no way of counting FLOPs called {convention!r}",
            allowed=", ".join(CONVENTIONS),
            fix=did_you_mean(convention, CONVENTIONS),
        )
    return float(CONVENTIONS[convention](counts or parameters(config), config, context))


@dataclass(frozen=True)
class Peak:
    """A rate in FLOP/s, and where it comes from (``measured``: by ``measure_peak`` rather than from a data sheet)."""

    flops: float
    source: str
    measured: bool


# Dense bf16 FLOP/s per JAX device, from the makers' data sheets; the first pattern found in device_kind counts.
CHIPS = (
    (r"A100", 312e12),
    (r"H100 PCIe", 756e12),
    (r"H100 NVL", 835e12),
    (r"H100|H200", 989e12),
    (r"GB200", 2500e12),
    (r"B200", 2250e12),
    (r"TPU v4$", 275e12),
    (r"TPU v5( lite|e)", 197e12),
    (r"TPU v5p?$", 459e12),
    (r"TPU v6( lite|e)", 918e12),
)


def chip_peak(device_kind: str) -> float | None:
    """Dense bf16 FLOP/s of one device, by ``jax.Device.device_kind``; None where the chip is not in ``CHIPS``."""
    return next((flops for pattern, flops in CHIPS if re.search(pattern, device_kind)), None)


def peak(devices: Sequence[jax.Device]) -> Peak | None:
    """The rate that MFU is a share of, for all ``devices`` together; None where their chip is not known.

    CPU devices of one process share its cores, so theirs is the measured rate times the number of processes.
    """
    first = devices[0]
    if first.platform == "cpu":
        processes = len({device.process_index for device in devices})
        return Peak(measure_peak() * processes, "measured fp32 GEMM rate", measured=True)
    chip = chip_peak(first.device_kind)
    if chip is None:
        return None
    return Peak(chip * len(devices), f"{len(devices)} x {first.device_kind}, dense bf16", measured=False)


def measure_peak(size: int = 1024, seconds: float = 0.2) -> float:
    """FLOP/s of fp32 products of two square matrices on this process's CPU: the median over about ``seconds``."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        a_DD = jax.numpy.ones((size, size), "float32")
        multiply = jax.jit(lambda x_DD, y_DD: x_DD @ y_DD)
        multiply(a_DD, a_DD).block_until_ready()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            multiply(a_DD, a_DD).block_until_ready()
            times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times)
