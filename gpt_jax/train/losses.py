"""Next-token cross-entropy in float32, over logits that need not exist all at once."""

import functools
import math

import jax
import jax.numpy as jnp

from gpt_jax.backend import target_platform
from gpt_jax.model.readout import Projection, logits_of

LOGITS_AT_ONCE = 2**26  # elements that a device holds at least: 256 MiB in float32
MEMORY_PER_LOGIT = 60  # bytes of an accelerator's memory: with their gradient in bfloat16 logits take a tenth of it
ROWS = 128  # a multiple of which products of chunks have on accelerators, whose units multiply so many at a time


def cross_entropy(
    x_BTD: jax.Array,
    projection: Projection,
    targets_BT: jax.Array,
    weights_BT: jax.Array,
    *,
    z_loss: float,
    chunk: int,
    shards: int,
) -> dict[str, jax.Array]:
    """Sums over tokens of weight * -log softmax(logits)[target], and of the z-loss z * log(Z)^2 (PaLM, section 5).

    Sums rather than means, so that micro-batches of unequal valid tokens add up to the whole batch's.

    Args:
      chunk: tokens of one device whose logits exist at once; 0 = as many as ``logits_at_once`` allows.
      shards: devices the batch is split over.

    Returns:
      "objective", the differentiable loss + z-loss, and "loss", "z_loss", "tokens" (the sum of weights).
    """
    arrays = x_BTD, targets_BT, weights_BT
    if not chunk_length(targets_BT.shape, projection, chunk, shards):
        sums = _sums(x_BTD, projection, targets_BT, weights_BT, z_loss)
    else:
        if target_platform() != "cpu":  # a device's tokens in one row, so that cutting it moves nothing in memory
            arrays = tuple(a.reshape(shards, -1, *a.shape[2:]) for a in arrays)
        length = chunk_length(arrays[1].shape, projection, chunk, shards)
        sums = _chunked(z_loss, length, arrays[0], projection, *arrays[1:])
    fixed = jax.lax.stop_gradient(sums)
    return {"objective": sums[0] + sums[1], "loss": fixed[0], "z_loss": fixed[1], "tokens": weights_BT.sum()}


def chunk_length(shape: tuple[int, ...], projection: Projection, chunk: int, shards: int) -> int:
    """Positions of each row whose logits exist at once; 0: of all rows [B, T]. Arguments as in ``cross_entropy``."""
    tokens = chunk or logits_at_once() // projection.w_DV.shape[1]
    return 0 if tokens * shards >= shape[0] * shape[1] else _positions(shape, tokens * shards, shards)


def logits_at_once(memory: int | None = None) -> int:
    """Elements of the logits that a device holds at once, where ``train.loss_chunk`` leaves it open.

    Args:
      memory: bytes of the device; None: of those here.
    """
    if memory is None:
        stats = None if target_platform() == "cpu" else jax.local_devices()[0].memory_stats()
        memory = (stats or {}).get("bytes_limit", 0)
    return max(LOGITS_AT_ONCE, memory // MEMORY_PER_LOGIT)


def _positions(shape: tuple[int, ...], tokens: int, shards: int) -> int:
    """Positions of each row in a chunk of at most so many tokens; on accelerators equal chunks that fill their matrix units,
    unless these would be less than half as long."""
    rows, context = shape
    most = max(1, tokens // rows)
    if target_platform() == "cpu":
        return most
    equal = [length for length in range(1, most + 1) if context % length == 0]
    longest = max([length for length in equal if rows * length // shards % ROWS == 0] or equal)
    return longest if 2 * longest > most else most


def with_experts(
    sums: dict[str, jax.Array], report: dict[str, jax.Array], weight: jax.Array, load_LE: jax.Array | None = None
) -> dict[str, jax.Array]:
    """The sums of ``cross_entropy`` with the losses that mixtures of experts report added to the objective, and "moe_loss"
    (over layers, summed), "moe_load" [L, E] (times the number of experts: 1 = balanced) and "moe_dropped" [L].

    Args:
      weight: of the tokens reported of, in the batch's sums.
      load_LE: of the whole batch, where ``report`` is of a part of it: its loss is no sum over parts.
    """
    if not report:
        return sums
    loss = report["moe_loss"].sum()
    if load_LE is not None:
        loss += ((load_LE - jax.lax.stop_gradient(report["moe_load"])) * report["moe_pull"]).sum()
    fixed = jax.lax.stop_gradient({**report, "moe_loss": loss})
    means = {
        "moe_loss": fixed["moe_loss"],
        "moe_load": fixed["moe_load"] * fixed["moe_load"].shape[-1],
        "moe_dropped": fixed["moe_dropped"],
    }
    return {**sums, "objective": sums["objective"] + weight * loss} | {k: weight * v for k, v in means.items()}


def over_layers(means: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The statistics of ``with_experts`` as scalars: "moe_max_load" and "moe_min_load" of the busiest and the idlest expert
    of any layer, and "moe_dropped" of the worst layer."""
    if "moe_load" not in means:
        return means
    load_LE = means["moe_load"]
    worst = {"moe_max_load": load_LE.max(), "moe_min_load": load_LE.min(), "moe_dropped": means["moe_dropped"].max()}
    return {name: value for name, value in means.items() if name != "moe_load"} | worst


def _sums(x_BTD, projection, targets_BT, weights_BT, z_loss):
    logits_BTV = logits_of(x_BTD, projection)
    logz_BT = _log_sum_exp(logits_BTV)
    target_BT = at_target(logits_BTV, targets_BT)
    loss = (weights_BT * (logz_BT - target_BT)).sum()
    return loss, (z_loss * weights_BT * jnp.square(logz_BT)).sum() if z_loss else jnp.zeros_like(loss)


def at_target(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """The logit of each target, [B, T]."""
    # A comparison instead of an index: its derivative is a product, where a gather's is a scatter.
    at_target_BTV = targets_BT[..., None] == jnp.arange(logits_BTV.shape[-1])
    return jnp.where(at_target_BTV, logits_BTV, 0).sum(-1)


def _log_sum_exp(logits_BTV: jax.Array) -> jax.Array:
    """log sum exp over the vocabulary; on a GPU in one pass over the logits, where the usual way takes two."""
    return jax.nn.logsumexp(logits_BTV, axis=-1) if target_platform() == "cpu" else _one_pass_log_sum_exp(logits_BTV)


@jax.custom_jvp
def _one_pass_log_sum_exp(logits_BTV):
    def joined(a, b):
        less = jnp.exp(-jnp.abs(a[0] - b[0]))
        return jnp.maximum(a[0], b[0]), jnp.where(a[0] > b[0], a[1] + less * b[1], less * a[1] + b[1])

    lowest = jnp.finfo(logits_BTV.dtype).min
    start = (jnp.asarray(lowest, logits_BTV.dtype), jnp.zeros((), logits_BTV.dtype))
    largest_BT, sum_BT = jax.lax.reduce((logits_BTV, jnp.ones_like(logits_BTV)), start, joined, (2,))
    return largest_BT + jnp.log(sum_BT)


@_one_pass_log_sum_exp.defjvp
def _one_pass_log_sum_exp_jvp(primals, tangents):
    (logits_BTV,), (d_BTV,) = primals, tangents
    logz_BT = _one_pass_log_sum_exp(logits_BTV)
    return logz_BT, (jnp.exp(logits_BTV - logz_BT[..., None]) * d_BTV).sum(-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _chunked(z_loss, length, x_BTD, projection, targets_BT, weights_BT):
    """``_sums``, ``length`` positions at a time. The forward pass computes its derivative, while a chunk's logits
    exist, so that no logits are computed twice or kept."""

    def add(total, part):
        x, targets, weights = part
        return jax.tree.map(jnp.add, total, _sums(x, projection, targets, weights, z_loss)), None

    zero = jnp.zeros((), jnp.promote_types(x_BTD.dtype, jnp.float32))
    return jax.lax.scan(add, (zero, zero), pieces(length, x_BTD, targets_BT, weights_BT))[0]


def _chunked_forward(z_loss, length, x_BTD, projection, targets_BT, weights_BT):
    def objective(x, projection, targets, weights):
        loss, z = _sums(x, projection, targets, weights, z_loss)
        return loss + z, (loss, z)

    gradient = jax.grad(objective, argnums=(0, 1), has_aux=True)

    def add(carry, part):
        (dx, dw), sums = gradient(part[0], projection, *part[1:])
        return jax.tree.map(jnp.add, carry, (sums, dw)), dx

    zero = jnp.zeros((), jnp.promote_types(x_BTD.dtype, jnp.float32))
    start = ((zero, zero), jax.tree.map(jnp.zeros_like, projection))
    (sums, d_projection), dx = jax.lax.scan(add, start, pieces(length, x_BTD, targets_BT, weights_BT))
    dx_BTD = dx.swapaxes(0, 1).reshape(x_BTD.shape[0], -1, x_BTD.shape[2])[:, : x_BTD.shape[1]]
    return sums, (dx_BTD, d_projection)


def _chunked_backward(z_loss, length, saved, cotangents):
    # cross_entropy differentiates the sum of the two alone, so that both have one cotangent.
    dx_BTD, d_projection = saved
    scaled = jax.tree.map(lambda d: cotangents[0] * d, d_projection)
    return (cotangents[0] * dx_BTD).astype(dx_BTD.dtype), scaled, None, None


_chunked.defvjp(_chunked_forward, _chunked_backward)


def pieces(length: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """[B, T, …] -> [chunks, B, length, …] of each, filled up with zeros."""
    count = math.ceil(arrays[0].shape[1] / length)
    fill = count * length - arrays[0].shape[1]

    def cut(a):
        a = jnp.pad(a, ((0, 0), (0, fill)) + ((0, 0),) * (a.ndim - 2))
        return a.reshape(a.shape[0], count, length, *a.shape[2:]).swapaxes(0, 1)

    return tuple(map(cut, arrays))
