"""Translations that are held out: of the made-up language, subjects with verbs that were never seen together
(``data.sources.translation``)."""

from typing import Any

from gpt_jax.judge.tasks import Asking, Task, asking, grouped
from gpt_jax.registry import options, register


@register(
    "judge.tasks",
    "translation",
    examples=("translation(problems=4)", "translation(source=\"translation(pair='toy')\", problems=4, shots=1)"),
)
@options(Asking)
def translation(**given: Any) -> Task:
    """BLEU and chrF of the corpus with sacrebleu's signatures, and how often a translation is the exact one; also for each
    direction."""
    return Task(asking(given), "translation", ("bleu", "chrf", "exact"), grouped("direction"))
