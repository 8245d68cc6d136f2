"""Instructions that are held out, by family and phrasing (``data.sources.instructions``)."""

from typing import Any

from gpt_jax.judge.tasks import Asking, Task, asking, grouped
from gpt_jax.registry import options, register


@register("judge.tasks", "instructions", examples=("instructions(problems=4)", "instructions(problems=4, shots=1)"))
@options(Asking)
def instructions(**given: Any) -> Task:
    """Whether the answer is the exact one; also for each family."""
    return Task(asking(given), "instructions", ("exact",), problem=grouped("family"))
