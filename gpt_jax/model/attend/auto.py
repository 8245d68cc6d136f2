"""The choice among the backends."""

import jax

from gpt_jax.model.attend import Backend, asked, backend
from gpt_jax.registry import register

# The fastest first, by platform. What none of these can do, ``xla`` does.
PREFERRED = {"gpu": ("cudnn", "pallas"), "tpu": ("splash",), "cpu": ()}
# On a CPU a matrix of scores is faster than blocks until it is larger than this (docs/performance.md); float32 bytes.
CPU_SCORES = 2**30


@register("model.attend", "auto")
def auto() -> Backend:
    """The fastest backend that can do what is asked on this device."""
    return Backend("auto", _run)


def choose(platform: str, features: frozenset[str], dtype: str, scores: int) -> Backend:
    """The backend that ``auto`` takes.

    Args:
      scores: elements of the matrix of scores, B N T S.
    """
    names = PREFERRED.get(platform, ())
    if platform == "cpu" and 4 * scores > CPU_SCORES:
        names = ("chunked",)
    backends = (backend(name) for name in (*names, "xla"))
    return next(b for b in backends if not b.refusal(features, platform, dtype))


def _run(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
    b, n, t, _ = q_BNTH.shape
    features, dtype = asked(spec, queries, keys), str(q_BNTH.dtype)
    chosen = choose(jax.default_backend(), features, dtype, b * n * t * k_BKSH.shape[2])
    return chosen.run(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop)
