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
    """Loss, perplexity and bits per byte of a checkpoint, or the metrics of what it was tuned for; also of a long text.

    With --tasks, tasks of lm-eval.
    """

    usage = (
        "--workdir=runs/q [--step=N]",
        "--workdir=runs/q --config.eval.split=train --config.eval.batches=20",
        "--workdir=runs/q --text=book.txt --config.eval.stride=64 [--losses=FILE.jsonl]",
        "--workdir=runs/q --tasks=lm_eval:NAME,lm_eval:DIRECTORY:shots=4",
    )

    def define(self, flags: Flags) -> None:
        from gpt_jax.config.sections import WAYS

        settings.of_run(flags)
        flags.integer("step", None, "checkpoint; the newest if not given", Natural)
        flags.string("tasks", None, "tasks of lm-eval, by commas: lm_eval:NAME, or a directory of task files")
        flags.path("text", None, "a file of text of any length, in place of the run's data")
        flags.choice("way", "", ["", *WAYS], "how --text is read; state where the model can, else windows")
        flags.path("losses", None, "file for the loss of every token of --text, a line of JSON each")

    def run(self, flags: Any) -> None:
        from gpt_jax.config import Config

        if flags.text is None and (flags.losses is not None or flags.way):
            unread = "losses" if flags.losses is not None else "way"
            raise UserError(f"--{unread} is of a text, and there is none", where="eval", fix="add --text=FILE")
        if flags.text is not None and flags.tasks is not None:
            raise UserError("--text and --tasks cannot be used together", where="eval")
        config = Config.from_dict(flags.config)
        if flags.tasks is not None:
            _judge(config, flags)
        elif flags.text is not None:
            _read(config, flags)
        else:
            from gpt_jax.train.feeds.read import evaluate_run

            evaluate_run(config, flags.workdir, flags.step)


def _read(config: Any, flags: Any) -> None:
    from gpt_jax import api
    from gpt_jax.sample.decode import Decoder
    from gpt_jax.sample.outputs import losses

    text = losses.read_text(Path(flags.text))
    to = None if flags.losses is None else Path(flags.losses)
    model = api.opened(config, flags.workdir, flags.step)
    decoder = Decoder(config.model, model.params)
    losses.report(decoder, model.tokenizer, text, flags.way, config.eval.stride, to)


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
