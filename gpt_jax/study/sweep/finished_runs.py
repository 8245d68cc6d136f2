"""Finished runs of a sweep: their models, and their scores under other settings than they were trained with."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import Config
from gpt_jax.mesh import mesh as meshes
from gpt_jax.model import gpt
from gpt_jax.study.sweep.sweep import resolve
from gpt_jax.train.checkpoint.run_directory import read_config
from gpt_jax.train.evaluate import scores
from gpt_jax.train.run import Run, open_run
from gpt_jax.train.step import read_params


def config_of(directory: Path, **changes: Any) -> Config:
    """The configuration of a run with some knobs changed, written section__knob=value."""
    knobs = {knob.replace("__", ".", 1): value for knob, value in changes.items()}
    return resolve(read_config(directory), directory.name, knobs)


def opened(directory: Path, **changes: Any) -> tuple[Run, dict]:
    """A run with its data, and its final parameters, unstacked: one layer a block."""
    run = open_run(config_of(directory, model__scan=False, **changes), directory)
    _, state, _ = run.load()
    return run, read_params(state)


def loss(directory: Path, **changes: Any) -> float:
    """Nats a token over the validation batches of training, under changed knobs such as model__context.

    Raises:
      UserError: the run's model does not support these settings.
    """
    run, params = opened(directory, **changes)
    return scores(run, params, run.data.valid.fixed(run.config.train.batch, run.config.train.eval_batches))["loss"]


def accuracy(directory: Path) -> float:
    """Top-1 accuracy over the tokens that count in the validation loss."""
    run, params = opened(directory)
    batches = run.data.valid.fixed(run.config.train.batch, run.config.train.eval_batches)
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
