"""The share of problems whose right option is the one that was chosen."""

from gpt_jax.judge.metrics import Metric, mean
from gpt_jax.registry import register


@register("judge.metrics", "accuracy")
def accuracy() -> Metric:
    return mean(accuracy=lambda answer: float(answer.texts[0] in answer.problem.answers))
