"""Tokens are exchanged for heads: every device computes the whole text for a part of the heads."""

import jax

from gpt_jax.mesh.context_strategy import AXIS, Strategy
from gpt_jax.model.attend import EVERYTHING
from gpt_jax.registry import register


@register("mesh.context_strategy", "ulysses")
def ulysses() -> Strategy:
    """Any backend, as each device has whole texts: best where heads are many (Jacobs et al. 2023, "DeepSpeed Ulysses").

    Two all-to-alls a layer; heads have to divide over the devices, and kv heads are repeated until they do.
    """
    return Strategy("ulysses", _run, _sent, EVERYTHING - {"cache", "mixing"}, heads=True)


def _sent(parts, queries, keys, size, again):
    return (parts - 1) / parts * 2 * (queries + keys) * size * (2 + again)


def _run(parts, backend, spec, q_BNTH, k_BKTH, v_BKTJ, queries, extras, kept_BNTS):
    q, k, v = (jax.lax.all_to_all(a, AXIS, split_axis=1, concat_axis=2, tiled=True) for a in (q_BNTH, k_BKTH, v_BKTJ))
    tokens = jax.tree.map(lambda a: jax.lax.all_gather(a, AXIS, axis=1, tiled=True), queries)

    def drop(weights_BNTS):
        return weights_BNTS if kept_BNTS is None else weights_BNTS * kept_BNTS

    y_BNTJ = backend.run(spec, q, k, v, tokens, tokens, extras, drop)
    return jax.lax.all_to_all(y_BNTJ, AXIS, split_axis=2, concat_axis=1, tiled=True)
