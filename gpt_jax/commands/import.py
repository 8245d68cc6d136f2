"""The verb import."""

from pathlib import Path
from typing import Any

from gpt_jax.commands import Command
from gpt_jax.commands.flags import Flags
from gpt_jax.configs import base
from gpt_jax.registry import register

SECTIONS = ("data", "optim", "train", "sample")  # what a directory of weights says nothing about


@register("commands", "import")
class Import(Command):
    """Make a run of a Hugging Face model."""

    usage = ("--from=HF_DIR --workdir=runs/x", "--from=HF_DIR --workdir=runs/x --optim.lr=1e-4")
    works = True

    def define(self, flags: Flags) -> None:
        flags.path("from", None, "directory with config.json and safetensors", "--from=HF_DIR")
        flags.path("workdir", None, "directory of the run to be made", "--workdir=runs/x")
        defaults = base.get_config()
        defaults.data.tokenizer = "none"  # unless the directory has one, or another is asked for
        flags.tables(lambda values: {section: defaults[section] for section in SECTIONS})

    def run(self, flags: Any) -> None:
        from gpt_jax.convert import importing

        others = base.get_config().to_dict() | {section: getattr(flags, section).to_dict() for section in SECTIONS}
        config = importing.import_directory(Path(getattr(flags, "from")), Path(flags.workdir), others)
        print(f"{flags.workdir} holds a model of {config.model.layers} layers as step 0")
