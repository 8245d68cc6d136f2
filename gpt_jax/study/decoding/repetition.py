"""Repetition within a text of token ids [T]."""

import numpy as np

SHORTEST, TIMES = 2, 3  # tokens of a phrase, and how often it stands at the end, to be a loop


def rep(prompt: np.ndarray, ids: np.ndarray, window: int) -> float:
    """rep/l: the share of tokens that occur among the ``window`` tokens before them, the prompt's too (Welleck et al. 2020,
    section 3)."""
    whole = np.concatenate([prompt, ids])
    starts = range(len(prompt), len(whole))
    return float(np.mean([whole[t] in whole[max(t - window, 0) : t] for t in starts]))


def seen_before(ids: np.ndarray, n: int) -> np.ndarray:
    """Of each n-gram of a text, in order, whether it stands in it before; bool [T - n + 1]."""
    if len(ids) < n:
        return np.zeros(0, bool)
    grams = np.lib.stride_tricks.sliding_window_view(ids, n)
    _, first, inverse = np.unique(grams, axis=0, return_index=True, return_inverse=True)
    return first[inverse.ravel()] < np.arange(len(grams))


def seq_rep(ids: np.ndarray, n: int) -> float:
    """seq-rep-n: 1 - distinct n-grams / n-grams (Welleck et al. 2020, section 3); 0 for a text without n-grams."""
    seen = seen_before(ids, n)
    return float(seen.mean()) if len(seen) else 0.0


def ends_in_loop(ids: np.ndarray) -> bool:
    """Whether a phrase of at least two tokens stands at the end three times in a row (Holtzman et al. 2020, section 5)."""
    for size in range(SHORTEST, len(ids) // TIMES + 1):
        phrases = ids[len(ids) - TIMES * size :].reshape(TIMES, size)
        if (phrases == phrases[0]).all():
            return True
    return False
