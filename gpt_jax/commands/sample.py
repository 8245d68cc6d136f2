"""The verb sample."""

from typing import Any

from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.limits import Natural
from gpt_jax.registry import register

LENGTH = ("sample.max_new_tokens", "config.sample.max_new_tokens")  # one that is given has to fit the context


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
        flags.integer("step", None, "checkpoint; the newest if not given", Natural)
        flags.string("prompt", None, "text to continue")
        flags.string("prompt_ids", None, 'token ids to continue, as "5 17 3"')
        flags.path("prompts", None, 'file of lines {"prompt": …} or {"ids": …}')
        flags.choice("output", "text", ["text", "ids", "jsonl"], "how to print")

    def run(self, flags: Any) -> None:
        from gpt_jax import api
        from gpt_jax.config import Config
        from gpt_jax.sample import text

        config = Config.from_dict({**flags.config, "sample": flags.sample})
        prompts = {name: getattr(flags, name) for name in ("prompt", "prompt_ids", "prompts")}
        model = api.opened(config, flags.workdir, flags.step)
        exact = not flags.given.isdisjoint(LENGTH)
        text.sample_command(config.model, model.params, model.tokenizer, config.sample, prompts, flags.output, exact)
