"""The choice among the backends."""

import jax

from gpt_jax.model.attend import Backend, backend
from gpt_jax.registry import register

# The fastest first, by platform (docs/performance.md has the figures).
PREFERRED = {"cpu": ("xla",), "gpu": ("xla",), "tpu": ("xla",)}


@register("model.attend", "auto")
def auto() -> Backend:
    """The fastest backend that can do what is asked on this device."""
    return Backend("auto", _run)


def choose(platform: str, features: frozenset[str], dtype: str) -> Backend:
    """The first of the platform's backends that can do it; ``xla`` can do everything."""
    backends = (backend(name) for name in PREFERRED.get(platform, ("xla",)))
    return next(b for b in backends if not b.refusal(features, platform, dtype))


def _run(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
    chosen = choose(jax.default_backend(), spec.features, str(q_BNTH.dtype))
    return chosen.run(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop)
