"""1 for a programme that passes the tests of its row, else 0. It runs what a model wrote."""

from typing import Annotated

from gpt_jax.judge.sandbox import pool
from gpt_jax.judge.verifiers.programmes import Programmes
from gpt_jax.limits import Count, Limits
from gpt_jax.registry import register
from gpt_jax.train.rewards import WHERE, Reward, verified


@register("train.rewards", "code", examples=("code(run=True)", "code(run=True, share=True, megabytes=256)"))
def code(
    *,
    tests: str = "tests",
    seconds: Annotated[float, Limits(0.01, 3600)] = 2.0,
    megabytes: Count = 512,
    share: bool = False,
    continued: bool = False,
    run: bool = False,
) -> Reward:
    """Whether the completion is a Python programme after which all tests of its row run without raising anything; of a
    completion with a block between ``` that block, the first of them. It has the standard library, and no input.

    Args:
      tests: the field of a row with its tests: a list of texts, such as "assert double(2) == 4", or one text, which is one
        test.
      seconds: of the processor, for the programme with its tests; by the clock twice as many and one.
      megabytes: of memory.
      share: the share of the tests that pass, in place of 1 for all and 0 for fewer.
      continued: the programme is the prompt with the completion after it.
      run: has to be set. See ``judge.verifiers.programmes.RISK``.

    Raises:
      UserError: ``run`` is not set, the system has no limits for processes, or not even a programme that does nothing passes
        within these; a row has no tests, something else than Python in their place, or with ``continued`` a dialogue for a
        prompt.
    """
    return verified(Programmes("code", WHERE, tests, pool.Bounds(seconds, megabytes, share), continued).verifier(run))
