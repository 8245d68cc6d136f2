"""Can one layer learn to continue what it has seen before, or does it take two?

Random symbols, repeated after 16 to 32 of them, so that what follows has to be found by content. An induction head needs
a head of an earlier layer that gives each token the one before it (Olsson et al. 2022): two layers can, one cannot,
not even one with twice the width. Their models of two layers reach nearly 0 nats on the repetition; log(64) = 4.16
nats is chance.
"""

import math
from pathlib import Path

import numpy as np

from gpt_jax.configs import base
from gpt_jax.interpret import attention, figures
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep, finished_runs

SYMBOLS = 64
CLAIM = "Olsson et al. 2022"
ARMS = {
    "two layers": {},
    "one layer": {"model.layers": 1},
    "one layer, twice as wide": {"model.layers": 1, "model.width": 128},
}


def sweep():
    c = base.get_config()
    c.model.update(layers=2, width=64, heads=4, context=64, position="rope")
    c.data.update(source=f"induction(block=32, shortest=16, symbols={SYMBOLS})", tokenizer="none")
    c.optim.update(lr=3e-3, warmup=50)
    c.train.update(steps=800, batch=32, eval_every=100, save_every=800, eval_batches=8, tensorboard=False)
    c.sample.prompts = ()
    return Sweep(c, ARMS, seeds=(0, 1, 2))


def analyse(results):
    losses = results.values()
    chance = math.log(SYMBOLS)
    found = [
        check_claim("two layers: nats a token on what is repeated", CLAIM, losses["two layers"].values(), most=0.1)
    ]
    for arm in list(ARMS)[1:]:
        found.append(
            check_claim(f"{arm}: the same, of {chance:.2f} by chance", CLAIM, losses[arm].values(), least=chance / 2)
        )
    scores = [best_head(directory) for directory in results.done("two layers").values()]
    found.append(check_claim("two layers: prefix-matching score of the best head of layer 2", CLAIM, scores, least=0.5))
    return found


def draw(results):
    run, params = finished_runs.opened(results.done("two layers")[results.seeds[0]])
    tokens = run.data.valid.fixed(1, 1)[0]["tokens"][:, :48]
    maps = np.asarray(attention.maps(run.config.model, params, tokens))[:, 0]
    caption = "Attention of every head on one window, seed 0; keys to the right, queries downwards."
    return {"heads": (figures.heads(maps, [str(i) for i in tokens[0]]), caption)}


def best_head(directory: Path) -> float:
    """The highest prefix-matching score of a head of the second layer."""
    run, params = finished_runs.opened(directory)
    tokens = run.data.valid.fixed(64, 1)[0]["tokens"]
    return float(attention.prefix_matching(attention.maps(run.config.model, params, tokens), tokens)[1].max())
