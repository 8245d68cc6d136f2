"""Questions about what was said some turns before (``data.sources.dialogue``)."""

from typing import Any

from gpt_jax.judge.tasks import Asking, Task, asking, grouped
from gpt_jax.registry import options, register


@register("judge.tasks", "dialogue", examples=("dialogue(problems=4)", "dialogue(problems=4, shots=1)"))
@options(Asking)
def dialogue(**given: Any) -> Task:
    """Whether the last answer is the exact one; also by the distance in turns to what it is about."""
    return Task(asking(given), "dialogue", ("exact",), problem=grouped("distance"))
