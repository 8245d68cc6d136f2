"""The verb fit."""

from pathlib import Path
from typing import Annotated, Any

from gpt_jax.commands import Command
from gpt_jax.commands.flags import Flags
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Seed
from gpt_jax.registry import register


@register("commands", "fit")
class Fit(Command):
    """Fit a scaling law to finished runs, with intervals."""

    usage = ("--runs=runs.csv [--law=chinchilla] [--out=DIR]", "--workdir=sweeps/x [--law=chinchilla] [--out=DIR]")
    works = True

    def define(self, flags: Flags) -> None:
        flags.path("runs", "", "CSV with the columns params,tokens,loss[,flops][,name][,status]")
        flags.path("workdir", "", "directory of a sweep, instead of --runs")
        flags.string("law", "chinchilla", "a file of gpt_jax/study/scaling/laws")
        flags.path("out", "", "directory for fit.json and fit.png; none are written if not given")
        flags.integer("seed", 0, "of starts and bootstrap samples", Seed)
        flags.integer("resamples", 1000, "bootstrap samples", Annotated[int, Limits(2, 100_000)])

    def run(self, flags: Any) -> None:
        if bool(flags.runs) == bool(flags.workdir):
            raise UserError(
                f"fit is given {'both' if flags.runs else 'neither'} --runs {'and' if flags.runs else 'nor'} --workdir",
                where="fit",
                allowed="one of --runs=runs.csv and --workdir=sweeps/x",
            )
        from gpt_jax.study.scaling import report, table

        runs = table.read(Path(flags.runs)) if flags.runs else table.of_sweep(Path(flags.workdir))
        report.fit_runs(runs, flags.law, flags.out, seed=flags.seed, resamples=flags.resamples)
