"""The verb sweep."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from gpt_jax.cluster import slurm
from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.limits import Limits
from gpt_jax.registry import register

PROCESSES = Annotated[int, Limits(0, 4096)]


@register("commands", "sweep")
class SweepCommand(Command):
    """Train every arm of a study with every seed, and compare them."""

    usage = (
        "--config=experiments/recall.py --workdir=sweeps/recall",
        '--config=my.py --workdir=sweeps/x --backend=slurm --slurm="--partition=gpu --gres=gpu:1"',
    )
    works = True

    def define(self, flags: Flags) -> None:
        flags.path("config", None, "Python file with a function sweep()", "--config=experiments/NAME.py")
        flags.path("workdir", None, "directory of the sweep, made if need be", "--workdir=sweeps/x")
        flags.choice("backend", "local", ["local", "slurm"], "where runs are trained")
        flags.string("slurm", "", settings.SLURM)
        flags.integer("jobs", 0, "runs at once; 0 = one a GPU, or one a core", PROCESSES)
        stacked = "runs that differ only in seeds and scalars, trained as one program; 0 = the fastest on a GPU, else 1"
        flags.integer("together", 0, stacked, PROCESSES)
        flags.boolean("retry", False, "train failed runs again")
        flags.tables(self._base)

    def _base(self, values: Any) -> dict[str, Any]:
        from gpt_jax.study.sweep.sweep import load

        values.sweep = load(Path(values.config))
        return {"config": values.sweep.base}

    def run(self, flags: Any) -> None:
        from gpt_jax.study import run

        settings.check_backend(flags, "slurm")
        if flags.backend == "slurm":
            slurm.options_of(flags.slurm)
            slurm.check()
        sweep = dataclasses.replace(flags.sweep, base=flags.config)
        execution = run.Execution(
            Path(flags.config_name),
            Path(flags.workdir),
            command=("python", "launch.py", "sweep", *flags.argv),
            jobs=flags.jobs,
            slurm=flags.backend == "slurm",
            options=flags.slurm,
            together=flags.together,
            retry=flags.retry,
        )
        run.run(sweep, execution)
