"""The verb chat."""

from typing import Any

from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.limits import Natural
from gpt_jax.registry import register


@register("commands", "chat")
class ChatCommand(Command):
    """Talk to a run that was trained on dialogues."""

    usage = (
        "--workdir=runs/chat",
        '--workdir=runs/chat --system="Be brief." --sample.temperature=0.5 --sample.seed=3',
    )

    def define(self, flags: Flags) -> None:
        settings.of_run(flags, "sample")
        flags.integer("step", None, "checkpoint; the newest if not given", Natural)
        flags.string("system", "", "what the system says before the first message")

    def run(self, flags: Any) -> None:
        from gpt_jax import api
        from gpt_jax.sample.chat import fitting, session
        from gpt_jax.sample.chat.chat import Chat
        from gpt_jax.sample.decoders import Decoders

        config = settings.of_writing(flags)
        where = f"--workdir={flags.workdir}"
        fitting.require_template(config, where)
        model = api.opened(config, flags.workdir, flags.step)
        writer = fitting.writer_of(config, model.tokenizer, where)
        decoder = Decoders(config.model, model.params, model.tokenizer, api.draft).of(config.sample)
        exact = not flags.given.isdisjoint(settings.LENGTH)
        session.talk(Chat(decoder, writer, config.sample, exact, flags.system))
