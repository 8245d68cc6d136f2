"""The metrics of a run that there is, printed."""

import dataclasses
from pathlib import Path

import jax

from gpt_jax.config import Config
from gpt_jax.mesh import mesh as meshes
from gpt_jax.train import reference
from gpt_jax.train.checkpoint import resume
from gpt_jax.train.feeds import feed_of
from gpt_jax.train.run import Run, open_run, to_read


def evaluate_run(config: Config, workdir: str | Path, step: int | None) -> None:
    """Prints the metrics of a checkpoint over ``eval.batches`` of ``eval.split``. Nothing is written.

    Raises:
      UserError: there is no such run or checkpoint.
    """
    run = reference.of_run(open_run(to_read(config), workdir))
    step, state, notes = run.load(step)
    resume.check_fingerprint(notes["data"], run.data.fingerprint)
    meshes.check_batch(run.mesh, config.eval.batch or config.train.batch, 1)
    feed = feed_of(_of_split(run), notes)
    with jax.set_mesh(run.mesh):
        values = feed.evaluate(state, None, lambda: False)
    assert values is not None
    covered = feed.covered().replace("train.eval_batches", "eval.batches")
    counted = f"{values['tokens']:,} tokens in {_windows(config)}, " if "tokens" in values else ""
    print(f"step {step}, {config.eval.split} split, {counted}{covered}")
    units = {**run.program.recipe.objective.shown, "perplexity": "per token"}
    for name, value in values.items():
        if name != "tokens":
            print(f"{name.replace('_', ' '):<16} {value:.6f} {units[name] if name in units else ''}".rstrip())


def _of_split(run: Run) -> Run:
    """The run whose evaluation is over what ``eval`` says."""
    train, asked = run.config.train, run.config.eval
    train = dataclasses.replace(
        train, batch=asked.batch or train.batch, eval_batches=asked.batches, eval_stride=asked.stride
    )
    data = dataclasses.replace(run.data, valid=getattr(run.data, asked.split))
    return dataclasses.replace(run, config=dataclasses.replace(run.config, train=train), data=data)


def _windows(config: Config) -> str:
    """In words."""
    context, stride = config.model.context, config.eval.stride
    if not stride:
        return f"disjoint windows of {context}"
    before = f"each with at least {context - stride} before it but in the first window"
    return f"windows of {context} that begin {stride} apart, each token counted once, {before}"
