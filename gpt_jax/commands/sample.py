"""The verb sample."""

from typing import Any

from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.registry import register


@register("commands", "sample")
class Sample(Command):
    """Continue texts with a checkpoint."""

    usage = (
        '--workdir=runs/q --prompt="def "',
        '--workdir=runs/q --prompt="def " --sample.temperature=0.8 --sample.top_k=50',
        "--workdir=runs/q --prompts=FILE.jsonl --output=jsonl",
    )

    def define(self, flags: Flags) -> None:
        settings.of_run(flags, "sample")
        flags.integer("step", None, "checkpoint; the newest if not given")
        flags.string("prompt", None, "text to continue")
        flags.string("prompt_ids", None, 'token ids to continue, as "5 17 3"')
        flags.path("prompts", None, 'file of lines {"prompt": …} or {"ids": …}')
        flags.choice("output", "text", ["text", "ids", "jsonl"], "how to print")

    def run(self, flags: Any) -> None:
        from gpt_jax.config import Config
        from gpt_jax.sample import text
        from gpt_jax.train.checkpoint.run_directory import read_tokenizer
        from gpt_jax.train.run import open_to_read
        from gpt_jax.train.step import read_params

        config = Config.from_dict({**flags.config, "sample": flags.sample})
        prompts = {name: getattr(flags, name) for name in ("prompt", "prompt_ids", "prompts")}
        _, state, _ = open_to_read(config, flags.workdir).load(flags.step)
        tokenizer = read_tokenizer(flags.workdir)
        text.sample_command(config.model, read_params(state), tokenizer, config.sample, prompts, flags.output)
