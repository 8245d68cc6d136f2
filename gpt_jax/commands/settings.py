"""The settings that a verb works with: those of a file, or those that a run was made with."""

from typing import Any

from ml_collections import ConfigDict

from gpt_jax import configs
from gpt_jax.commands.flags import Flags
from gpt_jax.config import Config
from gpt_jax.errors import UserError

LENGTH = ("sample.max_new_tokens", "config.sample.max_new_tokens")  # one that is given has to fit the context

SLURM = 'options for sbatch, as "--nodes=2 --gpus-per-node=8 --time=8:00:00"'


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


def of_writing(flags: Any) -> Config:
    """The settings of a run that is to write, with those of --sample; a line says where it was not trained to write."""
    from gpt_jax.train import describe
    from gpt_jax.train.step import objective_of

    config = Config.from_dict({**flags.config, "sample": flags.sample})
    if not objective_of(config).writes:
        head = f"{config.tune.objective} trained a head that reads texts; what is written shows the rest of it"
        describe.on_stderr("note", head)
    return config


def check_backend(flags: Any, *backends: str) -> None:
    """Refuses options of a backend that is not the one asked for.

    Raises:
      UserError: naming the flag.
    """
    for name in backends:
        if getattr(flags, name) and flags.backend != name:
            raise UserError(
                f"--{name} is given, but --backend={flags.backend} does not read it",
                where=f"--{name}",
                fix=f"add --backend={name}, or leave --{name} out",
            )
