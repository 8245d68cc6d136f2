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

    With --tasks, what the run can do: the tasks of this package, and those of lm-eval.
    """

    usage = (
        "--workdir=runs/q [--step=N]",
        "--workdir=runs/q --config.eval.split=train --config.eval.batches=20",
        '--workdir=runs/q --tasks="arithmetic,dialogue(shots=4)" [--compare=runs/other]',
        "--workdir=runs/q --tasks=lm_eval:NAME,lm_eval:DIRECTORY:shots=4",
        "--workdir=runs/q --text=book.txt --config.eval.stride=64 [--losses=FILE.jsonl]",
    )
    works = True

    def define(self, flags: Flags) -> None:
        from gpt_jax.config.sections import WAYS

        settings.of_run(flags)
        flags.integer("step", None, "checkpoint; the newest if not given", Natural)
        flags.string("tasks", None, "with commas between them: NAME, NAME(key=value), NAME:key=value, lm_eval:NAME")
        flags.path("compare", None, "a run, with a step or without (runs/other@500), that answers the same problems")
        flags.path("text", None, "a file of text of any length, in place of the run's data")
        flags.choice("way", "", ["", *WAYS], "how --text is read; state where the model can, else windows")
        flags.path("losses", None, "file for the loss of every token of --text, a line of JSON each")

    def run(self, flags: Any) -> None:
        from gpt_jax.config import Config

        _check(flags)
        config = Config.from_dict(flags.config)
        if flags.tasks is not None:
            _judge(config, flags)
        elif flags.text is not None:
            _read(config, flags)
        else:
            from gpt_jax.train.feeds.read import evaluate_run

            evaluate_run(config, flags.workdir, flags.step)


def _check(flags: Any) -> None:
    needs = {"losses": "text", "way": "text", "compare": "tasks"}
    for name, other in needs.items():
        if getattr(flags, name) and getattr(flags, other) is None:
            raise UserError(f"--{name} needs --{other}", where=f"--{name}", fix=f"add --{other}=…")
    if flags.text is not None and flags.tasks is not None:
        raise UserError("--text and --tasks cannot be used together", where="eval")


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
    """Own tasks, then the harness's; all of them are looked at before any is computed."""
    from gpt_jax import api
    from gpt_jax.judge.opened import calls_of, words_of
    from gpt_jax.study.lm_eval import asked, evaluate
    from gpt_jax.study.tasks import evaluation
    from gpt_jax.train.starting import places

    words = words_of(flags.tasks)
    calls = calls_of([word for word in words if not word.startswith(asked.PREFIX)])
    theirs = evaluate.loaded(asked.asked([word for word in words if word.startswith(asked.PREFIX)]))
    if flags.compare is not None and not calls:
        raise UserError("tasks of lm-eval are of one run", where="--compare", fix="name a task of this package")
    model = api.opened(config, flags.workdir, flags.step)
    other = None if flags.compare is None else _named(api.load(*places.split(flags.compare)))
    if theirs:
        about = {"model": "gpt_jax", "model_args": {"run": _named(model).name, "step": model.step}}
        harness = evaluate.model_of(config, model.params, model.tokenizer, about)
    if calls:
        print(evaluation.judge(_named(model), other, calls, Path(flags.workdir)))
    if theirs:
        evaluate.evaluate(harness, theirs, Path(flags.workdir) / evaluation.FOLDER / str(model.step))


def _named(model: Any) -> Any:
    from gpt_jax.study.tasks.result import Model

    return Model(model.where.resolve().name, model.config, model.params, model.tokenizer, model.step)
