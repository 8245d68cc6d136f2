"""The verb report."""

from pathlib import Path
from typing import Any

from gpt_jax.commands import Command
from gpt_jax.commands.flags import Flags
from gpt_jax.registry import register


@register("commands", "report")
class Report(Command):
    """A run, or a sweep, as a page with its figures and tables."""

    usage = ("--workdir=runs/q", "--workdir=sweeps/x")
    works = True

    def define(self, flags: Flags) -> None:
        flags.path("workdir", None, "directory of the run or the sweep", "--workdir=runs/q")

    def run(self, flags: Any) -> None:
        from gpt_jax.errors import UserError
        from gpt_jax.run_directory import CONFIG
        from gpt_jax.study.report import page as of_sweep
        from gpt_jax.study.run_page import page as of_run
        from gpt_jax.study.sweep.results import NAME

        workdir = Path(flags.workdir)
        pages = {NAME: of_sweep.report, CONFIG: of_run.report}
        write = next((page for name, page in pages.items() if (workdir / name).exists()), None)
        if write is None:
            raise UserError(
                f"{workdir} holds no sweep and no run",
                where=str(workdir),
                allowed=f"the directory of a sweep, with {NAME}, or of a run, with {CONFIG}",
                fix="launch.py sweep writes the one, launch.py train the other",
            )
        print(write(workdir))
