"""The choice among the backends."""

from gpt_jax.backend import target_platform
from gpt_jax.model.attend import Backend, asked, backend
from gpt_jax.registry import register

# The fastest first, by platform. What none of these can do, ``xla`` does.
PREFERRED = {"gpu": ("cudnn", "pallas"), "tpu": ("splash",), "cpu": ("causal",)}
# On a CPU a head's matrix of scores is as fast as blocks up to this many elements (docs/performance.md).
CPU_SCORES = 1024**2


@register("model.attend", "auto")
def auto() -> Backend:
    """The fastest backend that can do what is needed on this device."""
    return Backend("auto", _run, choose=choose)


def choose(platform: str, features: frozenset[str], dtype: str, head_dim: int, scores: int) -> Backend:
    """The backend that ``auto`` takes.

    Args:
      head_dim: channels of a query.
      scores: elements of one head's matrix of scores, T S.
    """
    names = PREFERRED.get(platform, ())
    if platform == "cpu" and scores > CPU_SCORES:
        names = ("blockwise",)
    backends = (backend(name) for name in (*names, "xla"))
    return next(b for b in backends if not b.refusal(features, platform, dtype, head_dim))


def _run(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
    features, dtype = asked(spec, queries, keys), str(q_BNTH.dtype)
    length, head_dim = q_BNTH.shape[2:]
    chosen = choose(target_platform(), features, dtype, head_dim, length * k_BKSH.shape[2])
    return chosen.run(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop)
