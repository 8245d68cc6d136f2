"""Finished runs of a sweep: their models, and their scores under other settings than they were trained with."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.mesh import mesh as meshes
from gpt_jax.model import gpt
from gpt_jax.run_directory import read_sections
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.sweep import resolve
from gpt_jax.train import reference
from gpt_jax.train.evaluate import scores
from gpt_jax.train.record.metrics import read_summary
from gpt_jax.train.run import Run, open_run
from gpt_jax.train.step import read_params


def finals(results: SweepResults, arm: str, metric: str) -> list[float]:
    """A metric at the end of the runs of an arm, one a seed: a name of summary.json's "final".

    Raises:
      UserError: a run has no such metric.
    """
    found = []
    for directory in results.done(arm).values():
        final = read_summary(directory)["final"]
        if metric not in final:
            raise UserError(f"{arm} has no {metric}", where=str(directory), allowed=", ".join(sorted(final)))
        found.append(float(final[metric]))
    return found


def config_of(directory: Path, **changes: Any) -> Config:
    """The configuration of a run with some knobs changed, written section__knob=value."""
    knobs = {knob.replace("__", ".", 1): value for knob, value in changes.items()}
    return resolve(read_sections(directory), directory.name, knobs)


def opened(directory: Path, **changes: Any) -> tuple[Run, dict]:
    """A run with its data, and its final parameters, unstacked: one layer a block."""
    run = _opened(directory, changes)
    _, state, _ = run.load()
    return run, run.params(state)


def loss(directory: Path, **changes: Any) -> float:
    """Nats a token over the validation batches of training, under changed knobs such as model__context.

    Raises:
      UserError: the run's model does not support these settings.
    """
    run = _opened(directory, changes)
    _, state, _ = run.load()
    return scores(run, read_params(state), run.validation)["loss"]


def _opened(directory: Path, changes: dict[str, Any]) -> Run:
    return reference.of_run(open_run(config_of(directory, model__scan=False, **changes), directory))


def accuracy(directory: Path) -> float:
    """Top-1 accuracy over the tokens that count in the validation loss."""
    run, params = opened(directory)
    batches = run.validation
    hits = total = 0.0
    with jax.set_mesh(run.mesh):
        for k in range(len(batches)):
            hit, count = _hits(run.config.model, params, meshes.put_batch(batches[k], run.mesh))
            hits, total = hits + float(hit), total + float(count)
    return hits / total


@functools.partial(jax.jit, static_argnums=0)
def _hits(config, params, batch):
    model = nnx.merge(gpt.graphdef(config), params)
    guess_BT = model(batch["tokens"]).argmax(-1)
    weights_BT = batch["weights"]
    return jnp.sum(weights_BT * (guess_BT == batch["targets"])), weights_BT.sum()
