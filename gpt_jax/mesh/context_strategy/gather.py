"""Every device gathers the keys and values of the whole text, for its own queries."""

import jax

from gpt_jax.mesh.context_strategy import AXIS, Strategy
from gpt_jax.model.attend import EVERYTHING, asked, check
from gpt_jax.registry import register


@register("mesh.context_strategy", "gather")
def gather() -> Strategy:
    """Everything, with any backend that takes queries of a part of the text: best where kv heads are few, and with documents
    (Llama Team 2024, section 3.3.2).

    Per device and layer it receives (c - 1) / c of all keys and values, and holds them all.
    """
    return Strategy("gather", _run, _sent, EVERYTHING - {"cache"})


def _sent(parts, queries, keys, size, again):
    return (parts - 1) * 2 * keys * size * (2 + again)


def _run(parts, backend, spec, q_BNTH, k_BKTH, v_BKTJ, queries, extras, kept_BNTS):
    k_BKSH, v_BKSJ = (jax.lax.all_gather(a, AXIS, axis=2, tiled=True) for a in (k_BKTH, v_BKTJ))
    keys = jax.tree.map(lambda a: jax.lax.all_gather(a, AXIS, axis=1, tiled=True), queries)
    check(backend, asked(spec, queries, keys))

    def drop(weights_BNTS):
        return weights_BNTS if kept_BNTS is None else weights_BNTS * kept_BNTS

    return backend.run(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop)
