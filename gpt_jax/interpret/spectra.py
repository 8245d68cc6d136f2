"""How many directions matrices and activations use."""

import jax
import numpy as np

from gpt_jax.interpret.model import unrolled


def weight_spectra(params: dict) -> dict[str, np.ndarray]:
    """Singular values, largest first, of every parameter of two axes or more, its first axis against the others,
    layer by layer."""
    found = {}
    for path, leaf in jax.tree.leaves_with_path(unrolled(params)):
        if leaf.ndim >= 2 and len(leaf) > 1:
            matrix = np.asarray(leaf, np.float64).reshape(len(leaf), -1)
            found[jax.tree_util.keystr(path, simple=True, separator="/")] = np.linalg.svd(matrix, compute_uv=False)
    return found


def activation_spectra(streams_LBTD: jax.Array) -> np.ndarray:
    """Standard deviations along the principal directions of the stream at every depth, largest first, [L+1, D]."""
    x_LXD = np.asarray(streams_LBTD, np.float64).reshape(len(streams_LBTD), -1, streams_LBTD.shape[-1])
    x_LXD = x_LXD - x_LXD.mean(1, keepdims=True)
    covariance_LDD = np.einsum("LXD,LXE->LDE", x_LXD, x_LXD) / x_LXD.shape[1]
    return np.sqrt(np.maximum(np.linalg.eigvalsh(covariance_LDD)[:, ::-1], 0))


def effective_rank(values: np.ndarray) -> float:
    """exp of the entropy of values scaled to the sum 1 (Roy & Vetterli 2007): between 1 and their number."""
    share = np.asarray(values, float) / np.sum(values)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))
