"""What attention backends are tried with on the devices that they are written for."""

import jax
import jax.numpy as jnp

from gpt_jax.model.attend import AttentionSpec, Backend, Extras, Reach
from gpt_jax.model.where import Where

B, N, K, T, H = 2, 8, 4, 1024, 64
SPECS = {
    "causal": AttentionSpec(scale=H**-0.5),
    "window": AttentionSpec(scale=H**-0.5, reach=Reach(window=100)),
    "softcap": AttentionSpec(scale=H**-0.5, softcap=5.0),
    "sink": AttentionSpec(scale=H**-0.5, sink=True),
    "stride": AttentionSpec(scale=H**-0.5, reach=Reach(stride=16)),
}


def gradient(chosen: Backend, spec: AttentionSpec, packed: bool):
    """A function of (q, k, v, sink, segments) that runs a backend forward and backward."""

    def loss(q, k, v, sink, segments_BT):
        tokens = Where(segments_BT=segments_BT if packed else None).queries(T)
        extras = Extras(sink_N=sink if spec.sink else None)
        y = chosen.run(spec, q, k, v, tokens, tokens, extras, lambda weights: weights)
        return y.astype(jnp.float32).sum()

    return jax.grad(loss, argnums=(0, 1, 2))


def shapes(dtype: str, sharding=None) -> list[jax.ShapeDtypeStruct]:
    """Arguments of ``gradient``."""
    sizes = [((B, n, T, H), dtype) for n in (N, K, K)] + [((N,), "float32"), ((B, T), "int32")]
    return [jax.ShapeDtypeStruct(size, kind, sharding=sharding) for size, kind in sizes]
