"""The verb sample."""

from pathlib import Path
from typing import Any

from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.errors import UserError
from gpt_jax.limits import Natural
from gpt_jax.registry import register

PROMPTS = ("prompt", "prompt_ids", "prompts")


@register("commands", "sample")
class Sample(Command):
    """Continue texts with a checkpoint."""

    usage = (
        '--workdir=runs/q --prompt="def "',
        '--workdir=runs/q --prompt="def " --sample.temperature=0.8 --sample.top_k=50',
        "--workdir=runs/q --prompts=FILE.jsonl --output=jsonl",
        "--workdir=runs/q --prompts=FILE.jsonl --output=jsonl --to=written.jsonl",
        "--workdir=runs/q --interactive",
    )

    def define(self, flags: Flags) -> None:
        settings.of_run(flags, "sample")
        flags.integer("step", None, "checkpoint; the newest if not given", Natural)
        flags.string("prompt", None, "text to continue, or to answer, where the run has a template")
        flags.string("prompt_ids", None, 'token ids to continue, as "5 17 3"')
        flags.path("prompts", None, 'file of lines {"prompt": …}, {"messages": …} or {"ids": …}')
        flags.choice("output", "text", ["text", "ids", "jsonl"], "how to print")
        flags.path("to", None, "file for the lines of --output=jsonl; the same command continues it")
        flags.boolean("interactive", False, "continue line by line what is typed, with knobs to turn in between")

    def run(self, flags: Any) -> None:
        if flags.to is not None and flags.output != "jsonl":
            raise UserError(f"--to and --output={flags.output}", where="--to", fix="--output=jsonl")
        prompts = {name: getattr(flags, name) for name in PROMPTS}
        chosen = [name for name in (*PROMPTS, "to") if getattr(flags, name) is not None]
        if flags.interactive and (chosen or flags.output != "text"):
            raise UserError(f"--interactive and --{(chosen or ['output'])[0]} cannot be used together", where="sample")

        from gpt_jax import api
        from gpt_jax.sample import text
        from gpt_jax.sample.decoders import Decoders
        from gpt_jax.sample.outputs import interactive
        from gpt_jax.sample.outputs.records import Records
        from gpt_jax.sample.prompts import writer_of
        from gpt_jax.train.checkpoint import directory, manifest

        config = settings.of_writing(flags)
        model = api.opened(config, flags.workdir, flags.step)
        writer = writer_of(config, model.tokenizer)
        exact = not flags.given.isdisjoint(settings.LENGTH)
        if flags.interactive:
            decoder = Decoders(config.model, model.params, model.tokenizer, api.draft).of(config.sample)
            interactive.Session(decoder, model.tokenizer, config.sample, exact, writer).run()
            return
        seal = model.where / directory.DIRECTORY / str(model.step) / manifest.SEAL
        records = None if flags.to is None else Records(Path(flags.to), f"{config.model} {seal.read_text('utf-8')}")
        given = (config.model, model.params, model.tokenizer, config.sample, prompts)
        text.sample_command(*given, flags.output, exact, records, api.draft, writer)
