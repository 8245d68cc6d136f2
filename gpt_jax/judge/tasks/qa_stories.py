"""Questions about short stories (``data.sources.qa_stories``)."""

from typing import Any

from gpt_jax.judge.tasks import Asking, Task, asking, grouped
from gpt_jax.registry import options, register


@register("judge.tasks", "qa_stories", examples=("qa_stories(problems=4)", "qa_stories(problems=4, shots=1)"))
@options(Asking)
def qa_stories(**given: Any) -> Task:
    """Exact match and F1 of words as SQuAD has them; also for each kind of question."""
    return Task(asking(given), "qa_stories", ("squad", "exact"), problem=grouped("kind"))
