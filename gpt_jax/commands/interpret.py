"""The verb interpret."""

from typing import Any

from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.limits import Natural
from gpt_jax.registry import register


@register("commands", "interpret")
class Interpret(Command):
    """Heads, layers and spectra of a checkpoint, as figures."""

    usage = ('--workdir=runs/q [--text="def "]',)
    works = True

    def define(self, flags: Flags) -> None:
        settings.of_run(flags)
        flags.integer("step", None, "checkpoint; the newest if not given", Natural)
        flags.string("text", "", "what to picture; the first validation window if not given")

    def run(self, flags: Any) -> None:
        from gpt_jax.config import Config
        from gpt_jax.interpret import overview

        print(overview.interpret_run(Config.from_dict(flags.config), flags.workdir, flags.step, flags.text))
