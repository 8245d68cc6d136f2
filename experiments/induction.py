"""Can one layer learn to continue what it has seen before, or does it take two?

Random symbols, repeated after 16 to 32 of them, so that what follows has to be found by content. An induction head needs a
head of an earlier layer that gives each token the one before it (Olsson et al. 2022, "In-context learning and induction
heads", argument 2): two layers can, one cannot, not even one with twice the width. Their models of two layers go through a
sudden change in which such heads form, models of one layer never do. Losses are in nats a token of what is repeated;
log(64) = 4.16 is chance. Symbols that come twice in a block leave a head that looks one token back about a fifth of a nat.
Rates are tuned for each arm. One layer is trained for 1500 steps, two for 1600.
"""

import functools
import math
from pathlib import Path

import jax
import numpy as np

from gpt_jax.configs import base
from gpt_jax.interpret import attention, figures
from gpt_jax.model import gpt
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep, finished_runs

SYMBOLS, EARLY = 64, 50
CHANCE = math.log(SYMBOLS)
OLSSON = "Olsson et al. 2022, argument 2 and the figures of its section"
TWO, GIVEN = "two layers", "two layers, the first sees one token back"
LONG = {"model.layers": 1, "train.steps": 1500, "train.save_every": 1500}
ARMS = {
    TWO: {"train.steps": 1600, "train.save_every": 1600},
    "one layer": LONG,
    "one layer, twice as wide": {**LONG, "model.width": 128},
    GIVEN: {"model.attention": ["sliding(window=2)", "full"]},
}


def sweep():
    c = base.get_config()
    c.model.update(layers=2, width=64, heads=4, context=64, position="rope")
    c.model.init = "normal(std=0.09)"  # near 1/sqrt(width); GPT-2's 0.02 begins slowly at this width
    c.data.update(source=f"induction(block=32, shortest=16, symbols={SYMBOLS})", tokenizer="none")
    c.optim.update(lr=4e-3, warmup=50)
    c.train.update(steps=800, batch=16, eval_every=EARLY, save_every=800, eval_batches=8, tensorboard=False)
    c.train.keep_best = False
    c.sample.prompts = ()
    return Sweep(c, ARMS, seeds=(0, 1, 2, 3, 4), tune="optim.lr", tune_seeds=(1000,))


# The length of the runs and the first range were chosen after a first result: 0.36 nats after 800 steps.
def analyse(results):
    losses, early = results.values(), results.values_at(EARLY)
    learned = check_claim(
        "two layers: nats a token on what is repeated",
        "nearly 0",
        losses[TWO].values(),
        scale="log",
        most=CHANCE / 10,
        source=OLSSON,
        reason="a tenth of chance: a model without induction is nowhere near, one with it passes on its way down",
        expected=0.2,
        must_fail={f"after {EARLY} steps": early[TWO].values()},
        must_pass={GIVEN: losses[GIVEN].values()},
    )
    stuck = [
        check_claim(
            f"{arm}: the same, of {CHANCE:.2f} by chance",
            "no induction",
            losses[arm].values(),
            scale="log",
            least=CHANCE / 2,
            source=OLSSON,
            reason="closer to chance than to the nothing that two layers reach",
            expected=CHANCE - 1,
            must_fail={TWO: losses[TWO].values()},
            must_pass={f"two layers after {EARLY} steps": early[TWO].values()},
        )
        for arm in list(ARMS)[1:3]
    ]
    heads = check_claim(
        "two layers: prefix-matching score of the best head of layer 2",
        "near 1",
        [best_head(run) for run in results.done(TWO).values()],
        scale="logit",
        least=0.5,
        source=OLSSON,
        reason="most of a head's attention; a head that looks everywhere alike has a thirtieth",
        expected=0.8,
        must_fail={"before training": [best_head(run, before=True) for run in results.done(TWO).values()]},
        must_pass={GIVEN: [best_head(run) for run in results.done(GIVEN).values()]},
    )
    return [learned, *stuck, heads]


def draw(results):
    run, params = finished_runs.opened(results.done(TWO)[results.seeds[0]])
    tokens = run.data.valid.fixed(1, 1)[0]["tokens"][:, :48]
    maps = np.asarray(attention.maps(run.config.model, params, tokens))[:, 0]
    caption = "Attention of every head on one window, seed 0; keys to the right, queries downwards."
    return {"heads": (figures.heads(maps, [str(i) for i in tokens[0]]), caption)}


@functools.cache
def best_head(directory: Path, before: bool = False) -> float:
    """The highest prefix-matching score of a head of the second layer, after training or before."""
    run, params = finished_runs.opened(directory)
    if before:
        params = gpt.init(run.config.model, jax.random.key(run.config.train.seed))
    tokens = run.data.valid.fixed(64, 1)[0]["tokens"]
    return float(attention.prefix_matching(attention.maps(run.config.model, params, tokens), tokens)[1].max())
