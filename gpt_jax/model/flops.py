"""Counts by convention: parameters, FLOPs per token, and the peak rate that model FLOPs utilisation (MFU) is a share of.

MFU here is tokens/s x FLOPs/token / peak, FLOPs/token by the convention "nanogpt" unless another is named: 6 per
parameter that is multiplied (readout counted, embedding lookup not) plus 12 L N H T for attention, whose scores are
counted whole, as if there were no causal mask, and whose windows are not taken into account. Recomputation (remat) never
counts. The peak is the chip's published dense bf16 rate whatever dtype the run uses, and on a CPU the measured rate of
fp32 matrix products.
"""

import dataclasses
import functools
import math
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.model import gpt
from gpt_jax.model.mlp import moe


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters.

    Args:
      total: all of them.
      non_embedding: without the token table, the position table and an untied readout (Kaplan et al. 2020, Pythia).
      lookup: of tables that are only read by index: positions, and the token table where the readout is untied.
      matmul: that multiply a token: the weights of linear layers, the readout, and the experts it passes.
      idle: of the experts that a token does not pass.
      experts: the weights of all experts.
    """

    total: int
    non_embedding: int
    lookup: int
    matmul: int
    idle: int
    experts: int


def parameters(config: ModelConfig) -> Parameters:
    """Of a model as it would be made, from its shapes.

    Raises:
      UserError: the vocabulary is not set, or a part cannot be built.
    """
    if config.vocab < 1:
        raise UserError("the size of the vocabulary is not known", where="config.model.vocab", allowed="1 or more")
    scanned = dataclasses.replace(config, scan=True)
    return count(jax.eval_shape(functools.partial(gpt.init, scanned), jax.random.key(0)), scanned)


def count(params: Mapping[str, Any], config: ModelConfig) -> Parameters:
    """The same from the parameters themselves (arrays or shapes; stacked or not).

    Leaves below "embed" are tables, "readout/w" is the untied readout, and any other leaf called "w" is multiplied; of
    those below "experts" only the share that a token passes.
    """
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    sizes = {tuple(str(key.key) for key in path): math.prod(leaf.shape) for path, leaf in leaves}

    def add(chosen: Callable[[tuple[str, ...]], bool]) -> int:
        return sum(size for path, size in sizes.items() if chosen(path))

    tables, tokens = add(lambda path: path[0] == "embed"), add(lambda path: path[:2] == ("embed", "tokens"))
    readout = add(lambda path: path[0] == "readout")
    experts = add(lambda path: "experts" in path and path[-1] == "w")
    mixture = moe.settings(config.mlp)
    idle = experts - experts * mixture.top_k // mixture.experts
    linear = add(lambda path: path[-1] == "w" and path[0] != "embed")
    tied = 0 if ("readout", "w") in sizes else tokens
    return Parameters(
        total=sum(sizes.values()),
        non_embedding=sum(sizes.values()) - tables - readout,
        lookup=tables - tied,
        matmul=linear + tied - idle,
        idle=idle,
        experts=experts,
    )


def _attention(config: ModelConfig, context: float) -> float:
    """Forward and backward FLOPs per token of q k' and p v, each token attending to ``context`` others."""
    return 12 * config.layers * config.heads * config.head_dim * context


# Training FLOPs per token (forward and backward; a third of it is the forward pass).
CONVENTIONS = {
    # Every parameter that is multiplied, and whole attention: nanoGPT's transformer_sizing.ipynb.
    "nanogpt": lambda n, config, context: 6 * n.matmul + _attention(config, context),
    # The same with norms and biases counted as if they were multiplied: PaLM (2022), appendix B.
    "palm": lambda n, config, context: 6 * (n.total - n.lookup - n.idle) + _attention(config, context),
    # The half of attention that a causal mask keeps, the diagonal included.
    "causal": lambda n, config, context: 6 * n.matmul + _attention(config, (context + 1) / 2),
    # C = 6 N D with all parameters: Hoffmann et al. (2022); the training compute of GPT-3's appendix D.
    "6n": lambda n, config, context: 6 * (n.total - n.idle),
    # C = 6 N D with non-embedding parameters: Kaplan et al. (2020).
    "kaplan": lambda n, config, context: 6 * (n.non_embedding - n.idle),
}


def flops_per_token(config: ModelConfig, context: int, convention: str) -> float:
    """Training FLOPs per token of sequences of ``context`` tokens, by a name in ``CONVENTIONS``.

    Raises:
      UserError: no such convention, or a model that cannot be counted.
    """
    if convention not in CONVENTIONS:
        raise UserError(
            f"there is no way of counting FLOPs called {convention!r}",
            allowed=", ".join(CONVENTIONS),
            fix=did_you_mean(convention, CONVENTIONS),
        )
    return float(CONVENTIONS[convention](parameters(config), config, context))


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

    CPU devices of one process share its cores, virtual ones among them, so the rate is measured with all of them busy; a
    process counts once.
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
    """FLOP/s of fp32 products of two square matrices on this process's CPU: the median over about ``seconds``, with every
    device at a product of its own."""
    devices = jax.local_devices(backend="cpu")
    mesh = Mesh(np.array(devices), ("rows",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(mesh):  # whatever mesh the caller works on
        a_XD = jax.device_put(
            np.ones((len(devices) * size, size), np.float32), NamedSharding(mesh, PartitionSpec("rows"))
        )
        b_DD = jax.device_put(np.ones((size, size), np.float32), NamedSharding(mesh, PartitionSpec()))
        multiply = jax.jit(lambda x_XD, y_DD: x_XD @ y_DD)
        multiply(a_XD, b_DD).block_until_ready()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            multiply(a_XD, b_DD).block_until_ready()
            times.append(time.perf_counter() - start)
    return len(devices) * 2 * size**3 / statistics.median(times)
