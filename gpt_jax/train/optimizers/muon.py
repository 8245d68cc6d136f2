"""Muon: the momentum of each hidden matrix, orthogonalised; Adam for everything else."""

from typing import Annotated

import jax
import optax

from gpt_jax.limits import Decay, Limits, Share
from gpt_jax.registry import register
from gpt_jax.train.optimizers.matrices import is_hidden_matrix, per_matrix


@register("train.optimizers", "muon")
def muon(
    *,
    scanned: bool,
    beta: Decay = 0.95,
    nesterov: bool = True,
    ns_steps: Annotated[int, Limits(1, 100)] = 5,
    b1: Decay = 0.9,
    b2: Decay = 0.95,
    eps: Share = 1e-8,
) -> optax.GradientTransformation:
    """Jordan et al. 2024, by optax; updates scaled by 0.2 sqrt(max(rows, columns)), so that their RMS is AdamW's and
    one learning rate serves both (Liu et al. 2025, equation 4).

    Args:
      beta, nesterov, ns_steps: momentum, and Newton-Schulz iterations, of matrices inside blocks.
      b1, b2, eps: Adam's, for embeddings, vectors and the readout.
    """
    matched = optax.stateless_with_tree_map(lambda update, _: update * (0.2 * max(update.shape) ** 0.5))
    orthogonal = optax.chain(optax.contrib.scale_by_muon(ns_steps=ns_steps, beta=beta, nesterov=nesterov), matched)
    rest = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)

    def labels(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: "muon" if is_hidden_matrix(path, leaf, scanned) else "adam", params
        )

    return optax.partition({"muon": per_matrix(orthogonal, scanned), "adam": rest}, labels)
