"""How sharp does a loss get under gradient descent with the whole data?

The sharpness is the largest eigenvalue of the loss's second derivative. A step of gradient descent at rate r is stable up to
a sharpness of 2 / r. Cohen et al. (2021, "Gradient descent on neural networks typically occurs at the edge of stability",
figure 1 and section 3) find that it rises until it is there, and then stays just above, at any rate; with cross-entropy it
falls again when the data have been memorised. Addition modulo 23, the whole table as one batch, one layer of width
32, two rates. Counted is the highest sharpness of fifteen, at equal distances in training.
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
from gpt_jax.plotting import COLOURS, panels
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep, finished_runs

P, POINTS = 23, 15
# Chosen after first results: three of five runs diverged at a rate of 0.4, and one at 0.2.
RATES = {0.1: 3000, 0.05: 6000}  # steps
COHEN = "Cohen et al. 2021, figure 1 and section 3"


def sweep():
    c = base.get_config()
    c.model.update(layers=1, width=32, heads=2, context=3, tied=False, norm="none", mlp="gelu")
    c.model.init = "normal(std=0.18)"
    c.data.update(source=f"modular_addition(p={P})", tokenizer="none", valid_fraction=0.05)
    c.optim.update(optimizer="sgd", warmup=0, schedule="constant", weight_decay=0.0, clip=0.0)
    c.train.update(
        batch=int(P * P * 0.95), eval_batches=1, keep=2 * POINTS, keep_best=False, log_every=10, tensorboard=False
    )
    c.sample.prompts = ()
    arms = {name(rate): {"optim.lr": rate, "train.steps": steps, **every(steps)} for rate, steps in RATES.items()}
    return Sweep(c, arms, seeds=(0, 1, 2, 3, 4), baseline=None)


def every(steps: int) -> dict[str, int]:
    return {"train.save_every": steps // POINTS, "train.eval_every": steps}


def name(rate: float) -> str:
    return f"rate {rate:g}"


def analyse(results):
    curves = {rate: [sharpnesses(run) for run in results.done(name(rate)).values()] for rate in RATES}

    def of(choose: Callable[[list[float]], float], rate: float) -> list[float]:
        return [choose(curve) * rate / 2 for curve in curves[rate]]

    return [
        check_claim(
            f"{name(rate)}: highest sharpness / (2 / rate)",
            "just above 1",
            of(max, rate),
            scale="log",
            least=0.9,
            most=2.0,
            source=COHEN,
            reason="at the line or above, and below twice it, where each step would make an error three times as large",
            expected=1.3,
            must_fail={
                "before training": of(lambda curve: curve[0], rate),
                "at the end, memorised": of(lambda curve: curve[-1], rate),
            },
            must_pass={"matrices whose largest eigenvalue is 1": known()},
        )
        for rate in RATES
    ]


def draw(results):
    figure, axis = panels(6, 3.8)
    for colour, (rate, steps) in zip(COLOURS, RATES.items(), strict=False):
        at = [steps * i // POINTS for i in range(POINTS + 1)]
        for i, run in enumerate(results.done(name(rate)).values()):
            axis.plot(at, sharpnesses(run), color=colour, linewidth=1.2, label=None if i else name(rate))
        axis.axhline(2 / rate, color=colour, linestyle=":", linewidth=1)
    axis.set(xlabel="steps", ylabel="sharpness; dotted: 2 / rate", yscale="log")
    axis.legend(frameon=False, fontsize=9)
    return {"sharpness": (figure, "The largest eigenvalue of the second derivative while training, a line a seed.")}


@functools.cache
def sharpnesses(directory: Path) -> list[float]:
    """The largest eigenvalue of the second derivative of the training loss: before training, and at each checkpoint."""
    run, _ = finished_runs.opened(directory)
    model = run.config.model
    batch = run.data.train.batches(run.config.train.batch, run.config.data.seed)[0]
    counted_BT = jnp.asarray(batch["weights"])

    def loss(params):
        losses_BT = nats(merged(model, params)(batch["tokens"]), batch["targets"])
        return (losses_BT * counted_BT).sum() / counted_BT.sum()

    places = [gpt.init(model, jax.random.key(run.config.train.seed))]
    for step in range(run.config.train.save_every, run.config.train.steps + 1, run.config.train.save_every):
        places.append(run.params(run.load(step)[1]))
    turn = turning(loss)
    return [largest(turn, place, run.config.train.seed) for place in places]


def turning(loss: Callable) -> Callable:
    """A step of power iteration: (parameters, direction) -> next direction, and its eigenvalue's estimate."""

    @jax.jit
    def turn(params, v):
        # Backwards twice: the model's own derivatives have no forward mode.
        hv = jax.grad(lambda params: dot(jax.grad(loss)(params), v))(params)
        size = jnp.sqrt(dot(hv, hv))
        return jax.tree.map(lambda x: x / size, hv), dot(v, hv)

    return turn


def largest(turn: Callable, params: Any, seed: int, turns: int = 40) -> float:
    """The eigenvalue of the largest size of the second derivative at ``params``, by power iteration."""
    keys = iter(jax.random.split(jax.random.key(seed), len(jax.tree.leaves(params))))
    v = jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape), params)
    for _ in range(turns):
        v, value = turn(params, v)
    return float(value)


def dot(a: Any, b: Any) -> jax.Array:
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, a, b)))


def known() -> list[float]:
    """The same of losses whose largest eigenvalue is 1."""
    found = []
    for seed in range(3):
        turned_DD, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(seed), (50, 50)))
        values_D = jnp.append(jnp.linspace(0, 0.8, 49), 1.0)
        matrix_DD = (turned_DD * values_D) @ turned_DD.T
        turn = turning(lambda w, matrix_DD=matrix_DD: w["w"] @ matrix_DD @ w["w"] / 2)
        found.append(largest(turn, {"w": jnp.ones(50)}, seed))
    return found
