"""The verb eval."""

from typing import Any

from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.limits import Natural
from gpt_jax.registry import register


@register("commands", "eval")
class Eval(Command):
    """Loss, perplexity and bits per byte of a checkpoint, or the metrics of what it was tuned for."""

    usage = ("--workdir=runs/q [--step=N]", "--workdir=runs/q --config.eval.split=train --config.eval.batches=20")

    def define(self, flags: Flags) -> None:
        settings.of_run(flags)
        flags.integer("step", None, "checkpoint; the newest if not given", Natural)

    def run(self, flags: Any) -> None:
        from gpt_jax.config import Config
        from gpt_jax.train.feeds.read import evaluate_run

        evaluate_run(Config.from_dict(flags.config), flags.workdir, flags.step)
