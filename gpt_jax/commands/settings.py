"""The settings that a verb works with: those of a file, or those that a run was made with."""

from typing import Any

from ml_collections import ConfigDict

from gpt_jax import configs
from gpt_jax.commands.flags import Flags


def of_file(flags: Flags) -> None:
    """--config, a preset or a file, whose every knob is a flag."""
    flags.string("config", None, "a preset or a Python file, NAME[:SIZE] or PATH[:ARGUMENT]", "--config=quickstart")
    flags.tables(lambda values: {"config": configs.load(values.config)})


def of_run(flags: Flags, *sections: str) -> None:
    """--workdir, a run, whose every knob is a flag; so are those of ``sections``, as --sample.top_k."""
    flags.path("workdir", None, "directory of the run", "--workdir=runs/q")

    def tables(values: Any) -> dict[str, ConfigDict]:
        stored = configs.of_run(values.workdir)
        return {"config": stored, **{section: stored[section] for section in sections}}

    flags.tables(tables)
