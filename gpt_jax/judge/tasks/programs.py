"""Small programmes, which their rows' tests judge in a sandbox (``data.sources.programs``). It runs what the model wrote."""

from typing import Annotated, Any

from gpt_jax.judge.metrics.pass_at import Several, several
from gpt_jax.judge.sandbox import pool
from gpt_jax.judge.tasks import WHERE, Asking, Task, asking
from gpt_jax.judge.verifiers.programmes import Programmes
from gpt_jax.limits import Count, Limits
from gpt_jax.registry import options, register


@register(
    "judge.tasks",
    "programs",
    examples=("programs(run=True, problems=4)", "programs(run=True, problems=4, samples=2, temperature=1.0, k=(1, 2))"),
)
@options(Asking)
def programs(
    *,
    run: bool = False,
    k: Several = 1,
    tests: str = "tests",
    seconds: Annotated[float, Limits(0.01, 3600)] = 2.0,
    megabytes: Count = 512,
    **given: Any,
) -> Task:
    """pass@k: whether one of k programmes passes all tests of its row.

    Args:
      run: has to be set. See ``judge.verifiers.programmes.RISK``.
      k: one or several, each up to ``samples``.
      tests: the field of a row with its tests.
      seconds: of the processor, for a programme with its tests.
      megabytes: of memory.

    Raises:
      UserError: see ``judge.verifiers.programmes``.
    """
    programmes = Programmes("programs", WHERE, tests, pool.Bounds(seconds, megabytes), continued=False)
    return Task(asking(given), "programs", (f"pass_at(k={several(k)!r})",), verify=programmes.verifier(run))
