"""The verb eval."""

from pathlib import Path
from typing import Any

from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.errors import UserError
from gpt_jax.limits import Natural
from gpt_jax.registry import register


@register("commands", "eval")
class Eval(Command):
    """Loss, perplexity and bits per byte of a checkpoint, or the metrics of what it was tuned for; tasks of lm-eval."""

    usage = (
        "--workdir=runs/q [--step=N]",
        "--workdir=runs/q --config.eval.split=train --config.eval.batches=20",
        "--workdir=runs/q --tasks=lm_eval:NAME,lm_eval:DIRECTORY:shots=4",
    )

    def define(self, flags: Flags) -> None:
        settings.of_run(flags)
        flags.integer("step", None, "checkpoint; the newest if not given", Natural)
        flags.string("tasks", "", "tasks of lm-eval, lm_eval:NAME or a directory of task files, by commas")

    def run(self, flags: Any) -> None:
        from gpt_jax.config import Config

        config = Config.from_dict(flags.config)
        if flags.tasks:
            _judge(config, flags)
            return
        from gpt_jax.train.feeds.read import evaluate_run

        evaluate_run(config, flags.workdir, flags.step)


def _judge(config: Any, flags: Any) -> None:
    from gpt_jax.judge.lm_eval import asked, evaluate

    words = [word for word in flags.tasks.split(",") if word]
    others = [word for word in words if not word.startswith(asked.PREFIX)]
    if others or not words:
        raise UserError(f"there is no task {','.join(others)!r}", where="--tasks", allowed=asked.SHAPE)
    tasks = asked.asked(words)
    evaluate.require()

    from gpt_jax import api

    model = api.opened(config, flags.workdir, flags.step)
    about = {"model": "gpt_jax", "model_args": {"run": model.where.resolve().name, "step": model.step}}
    lm = evaluate.model_of(config, model.params, model.tokenizer, about)
    evaluate.evaluate(lm, tasks, Path(flags.workdir) / evaluate.FOLDER)
