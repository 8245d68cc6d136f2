"""The verb report."""

from pathlib import Path
from typing import Any

from gpt_jax.commands import Command
from gpt_jax.commands.flags import Flags
from gpt_jax.registry import register


@register("commands", "report")
class Report(Command):
    """A sweep as a page with its figures and tables."""

    usage = ("--workdir=sweeps/x",)
    works = True

    def define(self, flags: Flags) -> None:
        flags.path("workdir", None, "directory of the sweep", "--workdir=sweeps/x")

    def run(self, flags: Any) -> None:
        from gpt_jax.study.report import page

        print(page.report(Path(flags.workdir)))
