"""The command line: ``launch.py VERB …``, ``gpt-jax VERB …`` or ``python -m gpt_jax VERB …``."""

import os
import sys
import traceback
from typing import NoReturn

from gpt_jax import backend, registry, terminal
from gpt_jax.commands import Command
from gpt_jax.commands.flags import Flags
from gpt_jax.errors import DONE, INTERNAL, INTERRUPTED, PIPE_CLOSED, RESUMABLE, UserError, did_you_mean
from gpt_jax.storage import as_failure

KIND = "commands"
NOTE = """
Every knob of the configuration can be set: --config.optim.lr=1e-3. With sample: --sample.temperature=0.8.
`VERB --help` shows a verb's flags and an example; --debug shows tracebacks.
"""


def command_line(argv: list[str], program: str = "python launch.py") -> NoReturn:
    """Runs one command and ends the process with its exit code."""
    code, interrupted = _ended(argv, program)
    if interrupted:  # perhaps within a compilation, after which jaxlib 0.10 crashes when Python cleans up
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: list[str], program: str = "python launch.py") -> int:
    """Runs one command and returns its exit code."""
    return _ended(argv, program)[0]


def _ended(argv: list[str], program: str) -> tuple[int, bool]:
    """The exit code of a command, and whether an interrupt ended it."""
    output = terminal.guard()
    try:
        if output is not None:
            output.needed = True
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(overview(program), end="")
        else:
            backend.tune()
            _run(argv[0], argv[1:], program, output)
        sys.stdout.flush()
        return DONE, False
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED, True
    except BrokenPipeError:  # of ``launch.py … | head``
        return PIPE_CLOSED, False
    except Exception as error:
        failure = as_failure(error)
        if failure is None:
            traceback.print_exc()
            print("error: this is a bug in gpt_jax; please report the lines above", file=sys.stderr)
            return INTERNAL, False
        if "--debug" in argv:
            raise
        print(str(failure) if failure.exit_code == RESUMABLE else f"error: {failure}", file=sys.stderr)
        return failure.exit_code, isinstance(error.__context__, KeyboardInterrupt)


def console() -> None:
    """The console script ``gpt-jax``."""
    command_line(sys.argv[1:], "gpt-jax")


def overview(program: str) -> str:
    """All verbs, each with the first line of its usage and what it does."""
    lines = [f"usage: {program} VERB [flags]", ""]
    for verb in registry.names(KIND):
        command: Command = registry.lookup(KIND, verb)()
        lines.append(f"  {verb:<10} {command.usage[0]:<58} {command.summary}")
    return "\n".join(lines) + "\n" + NOTE


def _run(verb: str, words: list[str], program: str, output: terminal.Output | None) -> None:
    verbs = registry.names(KIND)
    if verb not in verbs:
        raise UserError(f"there is no verb {verb!r}", allowed=", ".join(verbs), fix=did_you_mean(verb, verbs))
    command: Command = registry.lookup(KIND, verb)()
    flags = Flags(verb)
    command.define(flags)
    values = flags.parse(words)
    if not values.help:
        if output is not None:
            output.needed = not command.works
        command.run(values)
        return
    examples = "\n".join(f"  {program} {verb} {line}" for line in command.usage)
    print(f"{command.summary}.\n\n{examples}\n\n{flags.describe()}")
