"""Whether an answer is a programme that passes the tests of its row. It runs what a model wrote."""

import ast
import importlib.util
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from gpt_jax.data.examples import Row
from gpt_jax.errors import UserError
from gpt_jax.judge.sandbox import pool
from gpt_jax.judge.verifiers import Verifier
from gpt_jax.registry import NO_LITERAL

FENCED = re.compile(r"^```[^\n`]*\n(.*?)(?:^```|\Z)", re.MULTILINE | re.DOTALL)
RISK = (
    "limits of time, memory, files, processes and connections contain accidents, not malice: run it in a container without "
    "a network, and with nothing in it that may not be lost"
)


@dataclass(frozen=True)
class Programmes:
    """Of an answer with a block between ``` that block, the first of them, is the programme.

    Attributes:
      name: of what asks for it, and ``where`` the key, for errors.
      tests: the field of a row with its tests: a list of texts, such as "assert double(2) == 4", or one text.
      bounds: of a programme with its tests.
      continued: the programme is the prompt with the answer after it.
    """

    name: str
    where: str
    tests: str
    bounds: pool.Bounds
    continued: bool

    def verifier(self, run: bool) -> Verifier:
        """The share of its tests that a programme passes where ``bounds.every``, else 1 for all of them and 0 for fewer.

        Args:
          run: has to be set. See ``RISK``.

        Raises:
          UserError: it is not, the system has no limits for processes, or not even a programme that does nothing passes
            within these.
        """
        self._check(run)
        return self._judged

    def _check(self, run: bool) -> None:
        if not run:
            raise UserError(
                f"{self.name} runs the programmes that the model writes, as the user who starts it",
                where=self.where,
                allowed=f"{self.name}(run=True), once you want that",
                fix=RISK,
            )
        if importlib.util.find_spec("resource") is None:
            raise UserError(
                f"{self.name} needs the limits that Linux and macOS have for processes, and this system has none (no module "
                "resource)",
                where=self.where,
                fix="use Linux, or WSL or a container",
            )
        if not all(pool.verdicts([pool.Programme("bytearray(1 << 20)", ("pass",))], self.bounds)[0].passed):
            raise UserError(
                f"a programme that does nothing does not pass within {self.bounds.seconds:g} seconds and "
                f"{self.bounds.megabytes} megabytes",
                where=self.where,
                fix="raise them; the interpreter alone takes about 30 megabytes",
            )

    def _judged(self, answers: Sequence[tuple[Row, str]]) -> list[float | None]:
        asked = [pool.Programme(self._source(row, text), self._tests(row)) for row, text in answers]
        different = list(dict.fromkeys(asked))
        verdicts = pool.verdicts(different, self.bounds)
        passed = {programme: verdict.passed for programme, verdict in zip(different, verdicts, strict=True)}
        shares = [sum(passed[programme]) / len(programme.tests) for programme in asked]
        return [share if self.bounds.every else float(share == 1) for share in shares]

    def _source(self, row: Row, text: str) -> str:
        """The programme of an answer."""
        if self.continued:
            prompt = row["prompt"]
            if not isinstance(prompt, str):
                raise UserError(
                    f"{self.name}(continued=True) of a dialogue: {prompt!r:.80}",
                    where=self.where,
                    allowed="prompts of text",
                )
            return prompt + text
        block = FENCED.search(text)
        return textwrap.dedent(block[1] if block else text).strip()

    def _tests(self, row: Row) -> tuple[str, ...]:
        if self.tests not in row:
            raise UserError(
                f"{self.name} reads the field {self.tests!r} of a row, and one has {', '.join(map(str, row))}",
                where=self.where,
                allowed=f'rows with "{self.tests}": ["assert …", …]',
                fix=f"{self.name}(tests='…', run=True) names another field",
            )
        given = row[self.tests]
        found = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else ()
        if not found or not all(isinstance(test, str) and _is_python(test) for test in found):
            raise UserError(
                f"{self.name} of a row with {self.tests} = {given!r:.200}",
                where=self.where,
                allowed='a list of tests in Python, such as ["assert double(2) == 4"], or one such text',
            )
        return found


def _is_python(test: str) -> bool:
    try:
        return bool(ast.parse(test).body)
    except NO_LITERAL:
        return False
