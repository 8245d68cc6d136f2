"""NVIDIA's fused attention, by way of ``jax.nn.dot_product_attention``."""

import functools
import re

import jax
import jax.numpy as jnp

from gpt_jax.model.attend import Backend
from gpt_jax.registry import register

CHANNELS = 8  # a head's width is filled up to a multiple, as a text's length to one of 2
HOPPER = (9, 0)  # the compute capability of which heads may have 256 channels; before, 128


@register("model.attend", "cudnn", examples=("cudnn(interpret=True)",))
def cudnn(*, interpret: bool = False) -> Backend:
    """Windows natively; chunks, strides, packed documents and position biases as a [B, 1 or N, T, S] matrix that cuDNN
    reads. Half precision only, and heads of up to 256 channels, 128 before Hopper.

    Args:
      interpret: compute the same calls with XLA, on any device and in any dtype: to test the arguments.
    """
    run = functools.partial(_run, "xla" if interpret else "cudnn")
    can = frozenset({"window", "chunk", "stride", "bias", "segments"})
    if interpret:
        return Backend("cudnn", run, can)
    return Backend("cudnn", run, can, ("gpu",), ("bfloat16", "float16"), widest=_widest)


def _widest() -> int:
    # As JAX decides it: by the device that is there, also where it compiles for others.
    numbers = re.findall(r"\d+", str(getattr(jax.local_devices()[0], "compute_capability", "")))
    return 256 if tuple(map(int, numbers)) >= HOPPER else 128


def _run(implementation, spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
    t, h = q_BNTH.shape[2:]
    length, width = t + t % 2, -(-h // CHANNELS) * CHANNELS
    q, k, v = (_filled(a, (length, width)).swapaxes(1, 2) for a in (q_BNTH, k_BKSH, v_BKSJ))
    bias_BNTS = mask_B1TS = None
    if spec.bias:
        bias_BNTS = extras.position.bias(queries, keys).astype(q_BNTH.dtype)
        bias_BNTS = _filled(jnp.broadcast_to(bias_BNTS, (*bias_BNTS.shape[:2], t, t)), (length, length))
    # cuDNN knows causal masks and windows; every other rule is given as a mask. A token that is filled in comes last: no
    # real one sees it. It sees all, as a softmax of nothing would be nan.
    if spec.reach.chunk or spec.reach.stride or queries.segment_BT is not None:
        mask_B1TS = _filled(spec.reach.visible(queries, keys)[:, None], (length, length), True)
    y_BTNJ = jax.nn.dot_product_attention(
        q,
        k,
        v,
        bias=bias_BNTS,
        mask=mask_B1TS,
        scale=spec.scale,
        is_causal=True,
        local_window_size=(spec.reach.window - 1, 0) if spec.reach.window else None,
        implementation=implementation,
    )
    return jnp.swapaxes(y_BTNJ, 1, 2)[:, :, :t, :h]


def _filled(a: jax.Array, sizes: tuple[int, int], value: float = 0) -> jax.Array:
    """An array whose last two axes have these sizes."""
    if a.shape[-2:] == sizes:
        return a
    fill = [(0, size - old) for size, old in zip(sizes, a.shape[-2:], strict=True)]
    return jnp.pad(a, [(0, 0)] * (a.ndim - 2) + fill, constant_values=value)
