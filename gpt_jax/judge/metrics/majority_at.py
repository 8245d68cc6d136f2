"""maj@k: the probability that the answer which most of k have given is right (Wang et al. 2022), exactly, from n of them."""

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from gpt_jax.judge.metrics import Metric, means
from gpt_jax.judge.metrics.pass_at import Several, several
from gpt_jax.judge.problems import Answered
from gpt_jax.registry import register


@register("judge.metrics", "majority_at", examples=("majority_at", "majority_at(k=(1, 2))"))
def majority_at(*, k: Several = 1) -> Metric:
    """The mean over problems, over all subsets of k of their answers; of answers that are as frequent, one is drawn.

    Args:
      k: one or several, each up to the number of answers to a problem.
    """
    sizes = several(k)

    def values(answer: Answered) -> list[float]:
        votes = Counter(answer.votes)
        right = {vote for vote, correct in zip(answer.votes, answer.correct, strict=True) if correct == 1}
        return [float(sum(wins(votes, text, size) for text in right)) for size in sizes]

    return means([f"maj@{size}" for size in sizes], values, samples=max(sizes))


def wins(votes: Counter[str], text: str, k: int) -> Fraction:
    """The probability that ``text`` wins the vote of k of all answers, drawn without putting back."""
    others = [count for other, count in votes.items() if other != text]
    total = Fraction(0)
    for own in range(1, min(k, votes[text]) + 1):
        for ties, ways in enumerate(_outvoted(others, k - own, own)):
            total += Fraction(math.comb(votes[text], own) * ways, 1 + ties)
    return total / math.comb(votes.total(), k)


def _outvoted(counts: Sequence[int], drawn: int, most: int) -> list[int]:
    """In how many ways so many answers can be drawn of the others with none more often than ``most``, by the number of those
    that are drawn so often."""
    ways = {(0, 0): 1}  # (drawn, ties) -> ways
    for count in counts:
        following: dict[tuple[int, int], int] = {}
        for (before, ties), known in ways.items():
            for taken in range(min(count, most, drawn - before) + 1):
                at = before + taken, ties + (taken == most)
                following[at] = following.get(at, 0) + known * math.comb(count, taken)
        ways = following
    return [ways.get((drawn, ties), 0) for ties in range(len(counts) + 1)]
