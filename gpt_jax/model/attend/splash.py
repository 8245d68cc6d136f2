"""JAX's splash attention, a flash kernel for TPUs that skips blocks out of reach."""

import functools

import jax
import jax.numpy as jnp

from gpt_jax.errors import UserError
from gpt_jax.limits import Rows
from gpt_jax.model.attend import Backend
from gpt_jax.registry import register

LANES = 128  # of a TPU's vector unit: lengths and head dims are filled up to a multiple


@register("model.attend", "splash", examples=("splash(interpret=True)",))
def splash(*, block: Rows = 512, interpret: bool = False) -> Backend:
    """Windows, soft caps and packed documents on TPUs.

    Args:
      block: queries, and keys, of one step of the kernel: 128 or more.
      interpret: run the kernel's operations one by one on any device, slowly: to test it.
    """
    if block < LANES:
        raise UserError(f"splash(block={block})", where="config.model.attend", allowed=f"{LANES} or more")
    can = frozenset({"window", "softcap", "segments"})
    run = functools.partial(_run, block, interpret)
    return Backend("splash", run, can, () if interpret else ("tpu",), ("float32", "bfloat16"), opaque=True)


def _run(block, interpret, spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels

    t, h = q_BNTH.shape[2:]
    length, width = -(-t // LANES) * LANES, -(-h // LANES) * LANES
    q, k, v = (jnp.pad(a, ((0, 0), (0, 0), (0, length - t), (0, width - h))) for a in (q_BNTH, k_BKSH, v_BKSJ))
    size = max(s for s in range(LANES, min(block, length) + 1, LANES) if length % s == 0)
    kernel = kernels.make_splash_mha(
        _mask(q.shape[1], length, spec.reach.window),
        block_sizes=kernels.BlockSizes(
            block_q=size, block_kv=size, block_kv_compute=size, block_q_dkv=size, block_kv_dkv=size,
            block_kv_dkv_compute=size, block_q_dq=size, block_kv_dq=size,
        ),
        attn_logits_soft_cap=spec.softcap or None,
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )  # fmt: skip
    if queries.segment_BT is None:
        y = jax.vmap(kernel)(q * spec.scale, k, v)
    else:
        segment = jnp.broadcast_to(queries.segment_BT, (q.shape[0], t)).astype(jnp.int32)
        segment = jnp.pad(segment, ((0, 0), (0, length - t)))
        ids = kernels.SegmentIds(segment, segment)
        y = jax.vmap(kernel)(q * spec.scale, k, v, ids)
    return y[:, :, :t, :h].astype(q_BNTH.dtype)


def _mask(heads: int, length: int, window: int):
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    shape = (length, length)
    one = masks.LocalMask(shape, (window - 1, 0), 0) if window else masks.CausalMask(shape)
    return masks.MultiHeadMask([one] * heads)
