"""pass@k: the probability that one of k answers is right, without bias from n of them (Chen et al. 2021, section 2.1)."""

from gpt_jax.judge.metrics import Metric, means
from gpt_jax.limits import Count
from gpt_jax.registry import register

Several = Count | tuple[Count, ...] | list[Count]


@register("judge.metrics", "pass_at", examples=("pass_at", "pass_at(k=(1, 2))"))
def pass_at(*, k: Several = 1) -> Metric:
    """The mean over problems.

    Args:
      k: one or several, each up to the number of answers to a problem.
    """
    sizes = several(k)
    names = [f"pass@{size}" for size in sizes]
    return means(names, lambda answer: [of_samples(answer.correct, size) for size in sizes], samples=max(sizes))


def several(k: Several) -> tuple[int, ...]:
    return (k,) if isinstance(k, int) else tuple(k)


def of_samples(correct: tuple[float, ...], k: int) -> float:
    """1 - C(n - c, k) / C(n, k), as the product that does not overflow, of n answers of which c are right."""
    n, c = len(correct), sum(value == 1 for value in correct)
    missed = 1.0
    for i in range(n - c + 1, n + 1):
        missed *= max(0.0, 1 - k / i)
    return 1 - missed
