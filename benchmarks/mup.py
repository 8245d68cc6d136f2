"""The coordinate check of muP (Yang et al. 2022, appendix D.1): do activations keep their size with the width?

    python -m benchmarks.mup      # the powers of the width by which they grow, under muP and the standard parametrisation

It is also a test, tests/model/test_mup.py. That learning rates keep their optimum is for experiments/mup.py to show.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.model import gpt, init
from gpt_jax.train import losses, optim

BASE_WIDTH, HEAD_DIM = 64, 32
SCHEMES = {"muP": f"mup(base_width={BASE_WIDTH})", "standard": "gpt2"}


def settings(scheme: str, width: int, optimizer: str = "adamw") -> Config:
    """Two layers of ``width``, with heads of 32 channels and an untied readout."""
    values = base.get_config()
    values.model.update(
        layers=2,
        width=width,
        heads=width // HEAD_DIM,
        context=64,
        vocab=65,
        tied=False,
        bias=False,
        init=SCHEMES[scheme],
    )
    values.optim.update(optimizer=optimizer, lr=2**-9, schedule="constant", warmup=0, weight_decay=0.0)
    return Config.from_dict(values)


def sizes(config: Config, steps: int = 4) -> dict[str, float]:
    """Mean absolute values after some steps on one batch: of the stream after each layer, and of the logits."""
    # A few tokens only: of an update made from many, each sees a part of the size 1/sqrt(their number) that is aligned with
    # it, and a random rest that shrinks as 1/sqrt(width), which at small widths would be the larger of the two.
    tokens_BT = jax.random.randint(jax.random.key(1), (1, 9), 0, config.model.vocab)
    graphdef = gpt.graphdef(config.model)
    params = gpt.init(config.model, jax.random.key(0))
    optimizer = optim.build(config, params, False)
    state, hyper = optimizer.init(params), optim.hyper_of(config)

    @jax.jit
    def advance(params, state, step):
        grads = jax.grad(functools.partial(_loss, graphdef))(params, tokens_BT)
        updates, state, _ = optimizer.update(grads, state, params, step, hyper)
        return jax.tree.map(jnp.add, params, updates), state

    for step in range(steps):
        params, state = advance(params, state, step)
    found = jax.jit(functools.partial(_coordinates, graphdef))(params, tokens_BT)
    return {name: float(value) for name, value in found.items()}


def _loss(graphdef, params, tokens_BT):
    model = nnx.merge(graphdef, params)
    x_BTD, _ = model.hidden(tokens_BT[:, :-1])
    targets_BT = tokens_BT[:, 1:]
    ones_BT = jnp.ones(targets_BT.shape)
    sums = losses.cross_entropy(x_BTD, model.projection(), targets_BT, ones_BT, z_loss=0.0, chunk=0, shards=1)
    return sums["objective"] / sums["tokens"]


def _coordinates(graphdef, params, tokens_BT):
    model = nnx.merge(graphdef, params)
    factor = init.scheme(model.config).logits
    found = {"logits": model(tokens_BT[:, :-1])}
    for layers in range(1, model.config.layers + 1):
        part = nnx.merge(graphdef, params)
        part.config, part.norm = dataclasses.replace(model.config, layers=layers), None
        found[f"after layer {layers}"] = part.hidden(tokens_BT[:, :-1])[0] / factor
    return {name: jnp.abs(value).mean() for name, value in found.items()}


def slopes(scheme: str, widths: Sequence[int], optimizer: str = "adamw") -> dict[str, float]:
    """By which power of the width each size grows: the slope of a line through the logarithms."""
    table = [sizes(settings(scheme, width, optimizer)) for width in widths]
    return {name: float(np.polyfit(np.log2(widths), np.log2([row[name] for row in table]), 1)[0]) for name in table[0]}


def main() -> None:
    for optimizer in ("adamw", "muon"):
        for scheme in SCHEMES:
            found = slopes(scheme, (64, 128, 256, 512, 1024), optimizer)
            print(f"{scheme}, {optimizer}: " + ", ".join(f"{name} {slope:+.3f}" for name, slope in found.items()))


if __name__ == "__main__":
    main()
