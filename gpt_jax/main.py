"""The command line: ``launch.py VERB …``, ``gpt-jax VERB …`` or ``python -m gpt_jax VERB …``."""

import os
import sys

from gpt_jax import backend, registry
from gpt_jax.commands import Command
from gpt_jax.commands.flags import Flags
from gpt_jax.errors import DONE, INTERNAL, RESUMABLE, Failure, UserError, did_you_mean, out_of_memory

KIND = "commands"
NOTE = """
Every knob of the configuration can be set: --config.optim.lr=1e-3. With sample: --sample.temperature=0.8.
`VERB --help` shows a verb's flags and an example; --debug shows tracebacks.
"""


def main(argv: list[str], program: str = "python launch.py") -> int:
    """Runs one command and returns its exit code."""
    try:
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(overview(program), end="")
        else:
            backend.tune()
            _run(argv[0], argv[1:], program)
        sys.stdout.flush()
        return DONE
    except Failure as failure:
        if "--debug" in argv:
            raise
        print(str(failure) if failure.exit_code == RESUMABLE else f"error: {failure}", file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # of ``launch.py … | head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at exit
        return 141
    except Exception as error:
        if too_little := out_of_memory(error):
            print(f"error: {too_little}", file=sys.stderr)
            return too_little.exit_code
        import traceback

        traceback.print_exc()
        print("error: this is a bug in gpt_jax; please report the lines above", file=sys.stderr)
        return INTERNAL


def console() -> None:
    """The console script ``gpt-jax``."""
    sys.exit(main(sys.argv[1:], "gpt-jax"))


def overview(program: str) -> str:
    """All verbs, each with the first line of its usage and what it does."""
    lines = [f"usage: {program} VERB [flags]", ""]
    for verb in registry.names(KIND):
        command: Command = registry.lookup(KIND, verb)()
        lines.append(f"  {verb:<10} {command.usage[0]:<58} {command.summary}")
    return "\n".join(lines) + "\n" + NOTE


def _run(verb: str, words: list[str], program: str) -> None:
    verbs = registry.names(KIND)
    if verb not in verbs:
        raise UserError(f"there is no verb {verb!r}", allowed=", ".join(verbs), fix=did_you_mean(verb, verbs))
    command: Command = registry.lookup(KIND, verb)()
    flags = Flags(verb)
    command.define(flags)
    values = flags.parse(words)
    if not values.help:
        command.run(values)
        return
    examples = "\n".join(f"  {program} {verb} {line}" for line in command.usage)
    print(f"{command.summary}.\n\n{examples}\n\n{flags.describe()}")
