"""The verb train."""

from pathlib import Path
from typing import Any

from gpt_jax import configs
from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.registry import register


@register("commands", "train")
class Train(Command):
    """Train a model, or resume what the workdir holds."""

    usage = (
        "--config=configs/quickstart.py --workdir=runs/q",
        "--config=gpt2:124m --workdir=runs/g --config.optim.lr=1e-3",
    )
    works = True

    def define(self, flags: Flags) -> None:
        settings.of_file(flags)
        flags.path("workdir", None, "directory of the run, made if need be", "--workdir=runs/q")

    def run(self, flags: Any) -> None:
        from gpt_jax.train import loop

        loop.train(configs.settled(flags.config, Path(flags.workdir)), flags.workdir)
