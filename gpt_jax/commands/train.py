"""The verb train."""

from pathlib import Path
from typing import Any

from gpt_jax import configs
from gpt_jax.cluster.program import without
from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.registry import register


@register("commands", "train")
class Train(Command):
    """Train a model, or resume what the workdir holds."""

    usage = (
        "--config=quickstart --workdir=runs/q",
        "--config=gpt2:124m --workdir=runs/g --config.optim.lr=1e-3",
        '--config=gpt2:124m --workdir=runs/g --backend=slurm --slurm="--nodes=2 --gpus-per-node=8 --time=8:00:00"',
        '--config=gpt2:124m --workdir=runs/g --backend=k8s --k8s="image=me/gpt_jax:1,claim=runs,nodes=2,gpus=8"',
    )
    works = True

    def define(self, flags: Flags) -> None:
        settings.of_file(flags)
        flags.path("workdir", None, "directory of the run, made if need be", "--workdir=runs/q")
        flags.choice("backend", "local", ["local", "slurm", "k8s"], "where it is trained; k8s writes a manifest")
        flags.string("slurm", "", settings.SLURM)
        flags.string("k8s", "", 'pods, as "image=me/gpt_jax:1,claim=runs,nodes=2,gpus=8"')

    def run(self, flags: Any) -> None:
        settings.check_backend(flags, "slurm", "k8s")
        config, workdir = configs.settled(flags.config, Path(flags.workdir)), Path(flags.workdir)
        words = without(flags.argv, "backend", "slurm", "k8s")
        if flags.backend == "slurm":
            from gpt_jax.cluster import job

            job.train(config, workdir, words, flags.slurm)
        elif flags.backend == "k8s":
            from gpt_jax.cluster import jobset

            print(jobset.write(config, workdir, without(words, "workdir"), flags.k8s))
        else:
            from gpt_jax.train import loop

            loop.train(config, flags.workdir)
