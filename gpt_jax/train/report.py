"""The verbs that look at a run, or at a plan of one, without training."""

from pathlib import Path
from typing import Any

import jax

from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import plan as plans
from gpt_jax.train import resume
from gpt_jax.train.evaluate import evaluate
from gpt_jax.train.run import ReadRun, Run, open_run, open_to_read, with_vocab
from gpt_jax.train.step import State, hyper_scalars, make_program, read_params
from gpt_jax.train.workdir import read_tokenizer


def evaluate_run(config: Config, workdir: str | Path, step: int | None) -> None:
    """Prints the loss of a checkpoint over ``eval.batches`` of ``eval.split``.

    Raises:
      UserError: there is no such run or checkpoint.
    """
    run = open_run(config, workdir)
    step, state, notes = restored(run, step)
    resume.check_fingerprint(notes["data"], run.data.fingerprint)
    meshes.check_batch(run.mesh, config.eval.batch or config.train.batch, 1)
    split = getattr(run.data, config.eval.split)
    batches = split.fixed(config.eval.batch or config.train.batch, config.eval.batches)
    values = scores(run, read_params(state), batches)
    print(
        f"step {step}, {config.eval.split} split, {values['tokens']:,} tokens in disjoint windows of {config.model.context}"
    )
    units = {"loss": "nats/token", "perplexity": "per token", "bits_per_byte": ""}
    for name, unit in units.items():
        if name in values:
            print(f"{name.replace('_', ' '):<16} {values[name]:.6f} {unit}".rstrip())


def scores(run: Run, params: dict, batches: Any) -> dict[str, float]:
    """What ``evaluate`` gives of parameters over batches, not to be interrupted."""
    with jax.set_mesh(run.mesh):
        values = evaluate(run.program.evaluate, params, batches, run.mesh, run.byte_lengths_V, lambda: False)
    assert values is not None
    return values


def sample_run(config: Config, workdir: str | Path, step: int | None, prompts: dict, output: str) -> None:
    """Prints continuations by a checkpoint; ``prompts`` and ``output`` as ``gpt_jax.sample.text`` reads them."""
    from gpt_jax.sample import text

    run = open_to_read(config, workdir)
    _, state, _ = restored(run, step)
    text.sample_command(config.model, read_params(state), read_tokenizer(workdir), config.sample, prompts, output)


def print_plan(config: Config, devices: int | None, chip: str) -> None:
    """Prints what a run would take; with ``devices``, on so many pretended CPU devices."""
    if devices is not None:
        plans.virtual_devices(devices)
    mesh = meshes.make(config.mesh)
    config = with_vocab(config, _planned_vocab(config))
    program = make_program(config, mesh)

    def lower(mesh):
        sharding = meshes.batch_sharding(mesh)
        shape = (config.train.batch, config.model.context)
        names = {"tokens": "int32", "targets": "int32", "weights": "float32"}
        if config.data.pack == "segments":
            names |= {"segments": "int32", "positions": "int32"}
        batch = {name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for name, dtype in names.items()}
        with jax.set_mesh(mesh):
            return program.step.lower(program.live, batch, hyper_scalars(config))

    print(plans.render(plans.plan(config, mesh, program.live, lower, chip), chip), end="")


def _planned_vocab(config: Config) -> int:
    """The vocabulary of the data, which is read only where the configuration does not give one."""
    if config.model.vocab:
        return config.model.vocab
    from gpt_jax.data.open import open_data

    return open_data(config).vocab


def restored(run: ReadRun, step: int | None) -> tuple[int, State, dict[str, Any]]:
    """A checkpoint of a run, the newest if no step is named: its step, its state and its notes.

    Raises:
      UserError: there is none.
    """
    found = run.restore(run.checkpoints(), step)
    if found is None:
        raise UserError("there is no checkpoint in this run", where=str(run.workdir), fix="train it first")
    return found
