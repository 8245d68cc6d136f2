"""What the best of n samples is worth, for every n, from one set of N samples of each prompt."""

from collections.abc import Sequence

import numpy as np

from gpt_jax.errors import UserError


def expected(
    proxy_PN: np.ndarray, gold_PN: np.ndarray | None = None, n: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The expected gold reward of the sample that a proxy likes best of n: a mean over all subsets of n of the N samples, so
    that it is unbiased for every n (Gao et al. 2022, "Scaling laws for reward model overoptimization", appendix I).

    The sample that is i-th from below, counted from 0, is the best of C(i, n - 1) of the C(N, n) subsets. Where the proxy
    likes several equally, each of them is taken as often.

    Args:
      proxy_PN: the reward that chooses, of N samples of each of P prompts.
      gold_PN: the reward that is wanted; the proxy's own if None.
      n: numbers of samples, from 1 to N; all of them if None.

    Returns:
      n, and float64 [P, len(n)].

    Raises:
      UserError: shapes differ, a reward is not finite, or an n is not between 1 and N.
    """
    proxy_PN = np.asarray(proxy_PN, float)
    gold_PN = proxy_PN if gold_PN is None else np.asarray(gold_PN, float)
    samples = _checked(proxy_PN, gold_PN)
    sizes = np.arange(1, samples + 1) if n is None else np.asarray(n)
    if ((sizes < 1) | (sizes > samples)).any():
        raise UserError(f"the best of {sizes.min()} to {sizes.max()} samples", allowed=f"1 to {samples}, as there are")
    sorted_PN = np.stack([_sorted(*both) for both in zip(proxy_PN, gold_PN, strict=True)])
    return sizes, np.stack([sorted_PN @ shares(samples, int(size)) for size in sizes], axis=-1)


def shares(samples: int, n: int) -> np.ndarray:
    """C(i, n - 1) / C(N, n), of i from 0 to N - 1: how often each of N sorted samples is the best of n; float64 [N].

    From the last, n / N, downwards, as a product of ratios below 1: no binomial coefficient is ever formed.
    """
    i = np.arange(samples - 1, 0, -1, dtype=float)
    below = np.cumprod(np.maximum(i - n + 1, 0) / i)
    return np.concatenate([[1.0], below])[::-1] * (n / samples)


def divergence(n: int | np.ndarray) -> np.ndarray:
    """log n - (n - 1) / n, nats: KL(best of n || what it is drawn from) where no two samples are alike; else it is less, and
    this a bound (Hilton and Gao 2022; Beirami et al. 2024)."""
    return np.log(n) - (np.asarray(n) - 1) / n


def pass_at(k: int, correct_P: np.ndarray, samples: int) -> np.ndarray:
    """The chance that one of k samples is correct, where c of n are: 1 - C(n - c, k) / C(n, k), the mean over all subsets of
    k; float64 [P] (Chen et al. 2021, equation 1).

    Args:
      correct_P: c, of each prompt.
      samples: n.

    Raises:
      UserError: k is not between 1 and n, or c not between 0 and n.
    """
    correct_P = np.asarray(correct_P)
    if not 1 <= k <= samples:
        raise UserError(f"pass@{k} of {samples} samples", allowed=f"k from 1 to {samples}")
    if ((correct_P < 0) | (correct_P > samples)).any():
        raise UserError(f"{correct_P.min()} to {correct_P.max()} correct of {samples} samples")
    # The product over the last c of 1 - k / i, as the first that is 0 ends it.
    factor = 1 - k / np.arange(samples, 0, -1, dtype=float)
    failing = np.concatenate([[1.0], np.cumprod(np.maximum(factor, 0))])
    return 1 - failing[correct_P]


def _sorted(proxy_N: np.ndarray, gold_N: np.ndarray) -> np.ndarray:
    """Gold rewards by proxy, lowest first; of those with the same proxy, their mean."""
    _, place_N = np.unique(proxy_N, return_inverse=True)
    count = np.bincount(place_N)
    return np.repeat(np.bincount(place_N, gold_N) / count, count)


def _checked(proxy_PN: np.ndarray, gold_PN: np.ndarray) -> int:
    """How many samples there are."""
    if proxy_PN.ndim != 2 or proxy_PN.shape != gold_PN.shape or not proxy_PN.size:
        raise UserError(
            f"rewards of shapes {proxy_PN.shape} and {gold_PN.shape}", allowed="[prompts, samples], the same of both"
        )
    if not (np.isfinite(proxy_PN).all() and np.isfinite(gold_PN).all()):
        raise UserError("a reward is not finite", fix="leave its prompt out, or give it a value")
    return proxy_PN.shape[1]
