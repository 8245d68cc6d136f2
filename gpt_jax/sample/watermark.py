"""The watermark of Kirchenbauer et al. 2023 ("A Watermark for Large Language Models"): which tokens are green, and how many
of a text are.

Before each token the last ``context`` tokens choose a share ``fraction`` of the vocabulary, the green tokens, whose scores
the processor ``watermark`` raises. Whether a token is green is a hash of seed, context and token, so that no list
is drawn: every device and ``detect`` come to the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.limits import folded

GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: keeps a token's hash from that of the token 0 being 0


@dataclass(frozen=True)
class Detection:
    """What a text says of a watermark.

    Attributes:
      tokens: how many were counted: one for each different context.
      green: how many of those are green.
      z: standard deviations by which ``green`` exceeds what a text without the watermark has (equation 3).
      p_value: the probability that such a text has as many green tokens, by the binomial distribution.
    """

    tokens: int
    green: int
    z: float
    p_value: float


def detect(ids: Sequence[int], *, fraction: float = 0.25, seed: int = 0, context: int = 1) -> Detection:
    """Whether token ids carry the watermark of these settings; the bias is not needed.

    Args:
      ids: of the text, with or without its prompt. A context that occurs again is not counted again, as its green tokens
        are the same ones: repetitions would else pass for a watermark, or hide one (Fernandez et al. 2023, section 3).

    Raises:
      UserError: there are too few ids to have a token with a context, ``fraction`` is not between 0 and 1, or ``seed`` is
        negative.
    """
    if not 0 < fraction < 1 or context < 1:
        raise UserError(
            f"fraction = {fraction}, context = {context}", allowed="a fraction between 0 and 1, 1 token or more"
        )
    if len(ids) <= context:
        raise UserError(
            f"{len(ids)} tokens have none with {context} before it", allowed=f"{context + 1} tokens or more"
        )
    from scipy import stats

    array = np.asarray(ids, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(array, context + 1)
    _, first = np.unique(windows[:, :-1], axis=0, return_index=True)
    counted = windows[first].astype(np.uint32)
    hashes = begin(np.full(len(counted), folded(seed), np.uint32))
    for place in range(context):
        hashes = mixed(hashes, counted[:, place])
    green, total = int((mixed(hashes, counted[:, -1]) < threshold(fraction)).sum()), len(counted)
    z = (green - fraction * total) / np.sqrt(total * fraction * (1 - fraction))
    return Detection(total, green, float(z), float(stats.binom.sf(green - 1, total, fraction)))


def threshold(fraction: float) -> np.uint32:
    """Hashes below it are green."""
    return np.uint32(round(fraction * 2**32))


def begin(seed: Any) -> Any:
    return _scrambled(seed ^ np.uint32(GOLDEN))


def mixed(hashes: Any, tokens: Any) -> Any:
    """The hash after one more token each; of arrays of uint32, NumPy's or JAX's."""
    return _scrambled(hashes ^ _scrambled(tokens + np.uint32(GOLDEN)))


def _scrambled(x: Any) -> Any:
    """A permutation of the numbers of 32 bits, whose every bit depends on all (the finaliser "lowbias32" of C. Wellons)."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
