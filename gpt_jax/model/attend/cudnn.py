"""NVIDIA's fused attention, by way of ``jax.nn.dot_product_attention``."""

import functools

import jax
import jax.numpy as jnp

from gpt_jax.model.attend import Backend
from gpt_jax.registry import register


@register("model.attend", "cudnn", examples=("cudnn(interpret=True)",))
def cudnn(*, interpret: bool = False) -> Backend:
    """Windows natively; chunks, strides, packed documents and position biases as a [B, 1 or N, T, S] matrix that cuDNN
    reads. Half precision only.

    Args:
      interpret: compute the same calls with XLA, on any device and in any dtype: to test the arguments.
    """
    run = functools.partial(_run, "xla" if interpret else "cudnn")
    can = frozenset({"window", "chunk", "stride", "bias", "segments"})
    return Backend("cudnn", run, can, () if interpret else ("gpu",), () if interpret else ("bfloat16", "float16"))


def _run(implementation, spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
    # cuDNN knows causal masks and windows; every other rule is given as a mask.
    masked = spec.reach.chunk or spec.reach.stride or queries.segment_BT is not None
    y_BTNJ = jax.nn.dot_product_attention(
        *(a.swapaxes(1, 2) for a in (q_BNTH, k_BKSH, v_BKSJ)),
        bias=extras.position.bias(queries, keys).astype(q_BNTH.dtype) if spec.bias else None,
        mask=spec.reach.visible(queries, keys)[:, None] if masked else None,
        scale=spec.scale,
        is_causal=True,
        local_window_size=(spec.reach.window - 1, 0) if spec.reach.window else None,
        implementation=implementation,
    )
    return jnp.swapaxes(y_BTNJ, 1, 2)
