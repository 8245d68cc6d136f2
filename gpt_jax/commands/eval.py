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
    """Loss, perplexity and bits per byte of a checkpoint, or the metrics of what it was tuned for; or of tasks."""

    usage = (
        "--workdir=runs/q [--step=N]",
        "--workdir=runs/q --config.eval.split=train --config.eval.batches=20",
        '--workdir=runs/q --tasks="arithmetic,dialogue(shots=4)" [--compare=runs/other]',
    )
    works = True

    def define(self, flags: Flags) -> None:
        settings.of_run(flags)
        flags.integer("step", None, "checkpoint; the newest if not given", Natural)
        flags.string(
            "tasks", None, "tasks in its place: NAME, NAME(key=value) or NAME:key=value, with commas between them"
        )
        flags.path("compare", None, "a run, with a step or without (runs/other@500), that answers the same problems")

    def run(self, flags: Any) -> None:
        from gpt_jax.config import Config

        config = Config.from_dict(flags.config)
        if flags.tasks is None:
            if flags.compare is not None:
                raise UserError("--compare without --tasks", where="--compare", fix="name what is compared: --tasks=…")
            from gpt_jax.train.feeds.read import evaluate_run

            evaluate_run(config, flags.workdir, flags.step)
            return
        from gpt_jax import api
        from gpt_jax.judge.opened import calls_of
        from gpt_jax.study.tasks import evaluation
        from gpt_jax.train.starting import places

        def model(found: api.Model) -> evaluation.Model:
            return evaluation.Model(found.where.resolve().name, found.config, found.params, found.tokenizer, found.step)

        calls = calls_of(flags.tasks)
        one = model(api.opened(config, flags.workdir, flags.step))
        other = None if flags.compare is None else model(api.load(*places.split(flags.compare)))
        print(evaluation.judge(one, other, calls, Path(flags.workdir)))
