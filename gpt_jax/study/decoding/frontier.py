"""How far two sets of texts differ as distributions, by MAUVE's divergence frontier (Pillutla et al. 2021).

The embeddings are the model's own last hidden states, at every few tokens: a study has too few texts to compare one
embedding a text.
"""

from collections.abc import Sequence

import numpy as np
import scipy

CLUSTERS = 64
SCALE = 5.0  # of divergences in the exponent; the paper's c
MIXTURES = 25  # points of the curve


def histograms(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Of each text, how many of its states [S, D] fall into each of K clusters of all states, [P, K] of either set.

    k-means over states of unit length, fitted on both sets.
    """
    every_SD = np.concatenate([*ours, *theirs])
    every_SD = every_SD / np.maximum(np.linalg.norm(every_SD, axis=1, keepdims=True), 1e-9)
    clusters = min(CLUSTERS, max(1, len(every_SD) // 4), len(np.unique(every_SD, axis=0)))
    _, label_S = scipy.cluster.vq.kmeans2(every_SD, clusters, minit="++", rng=seed)
    parts = np.split(label_S, np.cumsum([len(states) for states in (*ours, *theirs)])[:-1])
    counts = np.array([np.bincount(labels, minlength=clusters) for labels in parts])
    return counts[: len(ours)], counts[len(ours) :]


def curve(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The divergence curve of two distributions [..., K]: points (exp(-c KL(q | r)), exp(-c KL(p | r))), with r = a p +
    (1 - a) q for a from 0 to 1, [..., points, 2] (equation 1)."""
    p, q = (x / x.sum(-1, keepdims=True) for x in (p, q))
    shares = np.linspace(0, 1, MIXTURES + 2)[1:-1, None]
    r = shares * p[..., None, :] + (1 - shares) * q[..., None, :]
    inner = np.stack([np.exp(-SCALE * _kl(x[..., None, :], r)) for x in (q, p)], -1)
    ends = np.broadcast_to(np.array([[1.0, 0.0], [0.0, 1.0]]), (*inner.shape[:-2], 2, 2))
    return np.concatenate([ends[..., :1, :], inner, ends[..., 1:, :]], -2)


def area(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The area under the curve, [...]: 1 for equal distributions, 0.004 for disjoint ones."""
    points = curve(p, q)
    x, y = points[..., 0], points[..., 1]
    return np.abs(np.trapezoid(y, x, axis=-1))


def _kl(p: np.ndarray, r: np.ndarray) -> np.ndarray:
    return scipy.special.rel_entr(p, r).sum(-1)
