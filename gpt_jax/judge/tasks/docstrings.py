"""Summaries of functions: the first lines of their docstrings (``data.sources.docstrings``)."""

from typing import Any

from gpt_jax.judge.tasks import Asking, Task, asking
from gpt_jax.registry import options, register


@register(
    "judge.tasks",
    "docstrings",
    examples=("docstrings(source=\"docstrings(packages=['json', 'email'], longest=200)\", problems=4, shots=1)",),
)
@options(Asking)
def docstrings(**given: Any) -> Task:
    """ROUGE, and how often the summary is the exact one."""
    return Task(asking(given), "docstrings", ("rouge", "exact"))
