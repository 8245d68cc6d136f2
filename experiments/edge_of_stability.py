"""How sharp does a loss get under gradient descent with the whole data?

The sharpness is the largest eigenvalue of the loss's second derivative. A step of gradient descent at rate r is stable up to
a sharpness of 2 / r. Cohen et al. (2021, "Gradient descent on neural networks typically occurs at the edge of stability",
figure 1 and section 3) find that it rises until it is there, and then stays just above, at any rate. Addition modulo 23, the
whole table as one batch, one layer of width 32 in float32, two rates.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.configs import base
from gpt_jax.interpret.model import merged, nats
from gpt_jax.model import gpt
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep, finished_runs
from gpt_jax.train.monitors.gradient_noise import square

P, STEPS = 23, 1500
RATES = (0.2, 0.4)
COHEN = "Cohen et al. 2021, figure 1 and section 3"


def sweep():
    c = base.get_config()
    c.model.update(layers=1, width=32, heads=2, context=3, tied=False, norm="none", mlp="gelu")
    c.model.init = "normal(std=0.18)"
    c.data.update(source=f"modular_addition(p={P})", tokenizer="none", valid_fraction=0.05)
    c.optim.update(optimizer="sgd", warmup=0, schedule="constant", weight_decay=0.0, clip=0.0)
    c.train.update(steps=STEPS, batch=int(P * P * 0.95), eval_every=STEPS, save_every=STEPS, eval_batches=1)
    c.train.update(tensorboard=False, keep_best=False, log_every=10)
    c.sample.prompts = ()
    return Sweep(c, {name(rate): {"optim.lr": rate} for rate in RATES}, seeds=(0, 1, 2, 3, 4), baseline=None)


def name(rate: float) -> str:
    return f"rate {rate:g}"


def analyse(results):
    ends = {rate: [sharpness(run) * rate / 2 for run in results.done(name(rate)).values()] for rate in RATES}
    begins = {rate: [sharpness(run, True) * rate / 2 for run in results.done(name(rate)).values()] for rate in RATES}
    return [
        check_claim(
            f"{name(rate)}: sharpness / (2 / rate) at the end",
            "just above 1",
            ends[rate],
            scale="log",
            least=0.8,
            most=1.5,
            source=COHEN,
            reason="their curves oscillate within a fifth below the line and half above it once they have reached it",
            expected=1.1,
            must_fail={"before training": begins[rate]},
            must_pass={"the eigenvalue of a known matrix, in its place": known()},
        )
        for rate in RATES
    ]


@functools.cache
def sharpness(directory: Path, before: bool = False) -> float:
    """The largest eigenvalue of the second derivative of the training loss, of a run's last parameters or its first."""
    run, params = finished_runs.opened(directory)
    model = run.config.model
    if before:
        params = gpt.init(model, jax.random.key(run.config.train.seed))
    batch = run.data.train.batches(run.config.train.batch, run.config.data.seed)[0]
    counted_BT = jnp.asarray(batch["weights"])

    def loss(params):
        losses_BT = nats(merged(model, params)(batch["tokens"]), batch["targets"])
        return (losses_BT * counted_BT).sum() / counted_BT.sum()

    return largest(loss, params, run.config.train.seed)


def largest(loss: Callable, params: Any, seed: int, turns: int = 60) -> float:
    """The eigenvalue of the largest size of the second derivative of ``loss`` at ``params``, by power iteration."""

    @jax.jit
    def turn(v):
        hv = jax.jvp(jax.grad(loss), (params,), (v,))[1]
        size = jnp.sqrt(square(hv))
        return jax.tree.map(lambda x: x / size, hv), sum(jax.tree.leaves(jax.tree.map(jnp.vdot, v, hv)))

    keys = iter(jax.random.split(jax.random.key(seed), len(jax.tree.leaves(params))))
    v = jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape), params)
    for _ in range(turns):
        v, value = turn(v)
    return float(value)


def known() -> list[float]:
    """The same of losses whose largest eigenvalue is 1."""
    found = []
    for seed in range(3):
        turned_DD, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(seed), (50, 50)))
        values_D = jnp.append(jnp.linspace(0, 0.8, 49), 1.0)
        matrix_DD = (turned_DD * values_D) @ turned_DD.T
        found.append(largest(lambda w, matrix_DD=matrix_DD: w["w"] @ matrix_DD @ w["w"] / 2, {"w": jnp.ones(50)}, seed))
    return found
