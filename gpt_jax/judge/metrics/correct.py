"""The share of answers that are right, by what the task says is right."""

import math

from gpt_jax.judge.metrics import Metric, mean
from gpt_jax.registry import register


@register("judge.metrics", "correct")
def correct() -> Metric:
    """Of a problem with several answers, the mean of them; with answers by options, the accuracy."""
    return mean(correct=lambda answer: math.fsum(answer.correct) / len(answer.correct))
