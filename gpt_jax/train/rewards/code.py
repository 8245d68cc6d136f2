"""1 for a programme that passes the tests of its row, else 0. It runs what a model wrote."""

import ast
import importlib.util
import re
import textwrap
from collections.abc import Sequence
from typing import Annotated

from gpt_jax.data.examples import Row
from gpt_jax.errors import UserError
from gpt_jax.limits import Count, Limits
from gpt_jax.registry import NO_LITERAL, register
from gpt_jax.train.rewards import WHERE, Completion, Reward
from gpt_jax.train.sandbox import pool

FENCED = re.compile(r"^```[^\n`]*\n(.*?)(?:^```|\Z)", re.MULTILINE | re.DOTALL)
RISK = (
    "limits of time, memory, files, processes and connections contain accidents, not malice: train in a container without "
    "a network, and with nothing in it that may not be lost"
)


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
      run: has to be set. See ``RISK``.

    Raises:
      UserError: ``run`` is not set, the system has no limits for processes, or not even a programme that does nothing passes
        within these; a row has no tests, something else than Python in their place, or with ``continued`` a dialogue for a
        prompt.
    """
    if not run:
        raise UserError(
            "code runs the programmes that the model writes, as the user who trains",
            where=WHERE,
            allowed="code(run=True), once you want that",
            fix=RISK,
        )
    if importlib.util.find_spec("resource") is None:
        raise UserError(
            "code needs the limits that Linux and macOS have for processes, and this system has none (no module resource)",
            where=WHERE,
            fix="train on Linux, or in WSL or a container",
        )
    bounds = pool.Bounds(seconds, megabytes, share)
    if not all(pool.verdicts([pool.Programme("bytearray(1 << 20)", ("pass",))], bounds)[0].passed):
        raise UserError(
            f"a programme that does nothing does not pass within {seconds:g} seconds and {megabytes} megabytes",
            where=WHERE,
            fix="raise them; the interpreter alone takes about 30 megabytes",
        )

    def reward(completions: Sequence[Completion]) -> list[float]:
        asked = [pool.Programme(_source(one, continued), _tests(one.row, tests)) for one in completions]
        different = list(dict.fromkeys(asked))
        passed = {
            programme: verdict.passed
            for programme, verdict in zip(different, pool.verdicts(different, bounds), strict=True)
        }
        shares = [sum(passed[programme]) / len(programme.tests) for programme in asked]
        return shares if share else [float(found == 1) for found in shares]

    return reward


def _source(completion: Completion, continued: bool) -> str:
    """The programme of a completion."""
    if continued:
        prompt = completion.row["prompt"]
        if not isinstance(prompt, str):
            raise UserError(
                f"code(continued=True) of a dialogue: {prompt!r:.80}", where=WHERE, allowed="prompts of text"
            )
        return prompt + completion.text
    block = FENCED.search(completion.text)
    return textwrap.dedent(block[1] if block else completion.text).strip()


def _tests(row: Row, field: str) -> tuple[str, ...]:
    if field not in row:
        raise UserError(
            f"code reads the field {field!r} of a row, and one has {', '.join(map(str, row))}",
            where=WHERE,
            allowed=f'rows with "{field}": ["assert …", …]',
            fix="code(tests='…', run=True) names another field",
        )
    given = row[field]
    found = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else ()
    if not found or not all(isinstance(test, str) and _is_python(test) for test in found):
        raise UserError(
            f"code of a row with {field} = {given!r:.200}",
            where=WHERE,
            allowed='a list of tests in Python, such as ["assert double(2) == 4"], or one such text',
        )
    return found


def _is_python(test: str) -> bool:
    try:
        return bool(ast.parse(test).body)
    except NO_LITERAL:
        return False
