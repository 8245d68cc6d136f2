"""The verb export."""

from pathlib import Path
from typing import Any

from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.limits import Natural, Positive
from gpt_jax.registry import register


@register("commands", "export")
class Export(Command):
    """Make a Hugging Face model of a run."""

    usage = (
        "--workdir=runs/x --to=HF_DIR [--step=N]",
        "--workdir=runs/x --to=HF_DIR --dtype=bfloat16 --family=llama",
        "--workdir=runs/lora --to=HF_DIR --adapter=apart",
    )
    works = True

    def define(self, flags: Flags) -> None:
        settings.of_run(flags)
        flags.path("to", None, "directory to be made", "--to=HF_DIR")
        flags.integer("step", None, "checkpoint; the newest if not given", Natural)
        flags.string("family", "", "model_type; the first that can express the model if not given")
        flags.choice("dtype", "float32", ["float32", "bfloat16", "float16"], "of the tensors")
        forms = "of a run with an adapter: merged into the model, apart in PEFT's form, or the model without it"
        flags.choice("adapter", "merged", ["merged", "apart", "base"], forms)
        flags.number("shard_gb", 5.0, "size of a file, at most, in 10^9 bytes", Positive)

    def run(self, flags: Any) -> None:
        from gpt_jax.config import Config
        from gpt_jax.convert import exporting

        form = exporting.Form(flags.family, flags.dtype, int(flags.shard_gb * 1e9), flags.adapter)
        config, to = Config.from_dict(flags.config), Path(flags.to)
        step = exporting.export_run(config, Path(flags.workdir), to, flags.step, form)
        held = {"merged": "model", "apart": "adapter", "base": "base model"}[flags.adapter]
        print(f"{flags.to} holds the {held} of step {step}")
