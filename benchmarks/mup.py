"""Does muP do what it promises? Activations that keep their size, and a learning rate that keeps its optimum, with width.

    python -m benchmarks.mup --data=tinyshakespeare.txt      # writes docs/mup.png and benchmarks/results/mup.json

Both are measured for the parametrisation ``mup`` and for ``gpt2``, the standard one. The coordinate check (Yang et al.
2022, appendix D.1) is also a test: tests/model/test_mup.py.
"""

import argparse
import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm

from configs import base
from gpt_jax.config import Config
from gpt_jax.data.open import open_data
from gpt_jax.model import gpt, init
from gpt_jax.train import losses, optim

BASE_WIDTH, HEAD_DIM = 64, 32
SCHEMES = {"muP": f"mup(base_width={BASE_WIDTH})", "standard": "gpt2"}
RESULTS = Path(__file__).parent / "results" / "mup.json"
FLOOR = 0.01
FIGURE = Path(__file__).resolve().parents[1] / "docs" / "mup.png"


def settings(scheme: str, width: int, optimizer: str = "adamw", **changes) -> Config:
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
    for key, value in changes.items():
        section, _, knob = key.partition("__")
        values[section].update({knob: value})
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


def final_losses(config: Config, rates: Sequence[float], steps: int) -> list[float]:
    """By learning rate, the mean training loss of the last tenth of the steps; infinite where it is not finite."""
    batches = open_data(config).train.batches(config.train.batch, config.data.seed)
    graphdef = gpt.graphdef(config.model)
    init_params = jax.jit(functools.partial(gpt.init, config.model))
    optimizer = optim.build(config, jax.eval_shape(init_params, jax.random.key(0)), False)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def advance(params, state, step, tokens_BT, hyper):
        loss, grads = jax.value_and_grad(functools.partial(_loss, graphdef))(params, tokens_BT)
        updates, state, _ = optimizer.update(grads, state, params, step, hyper)
        return jax.tree.map(jnp.add, params, updates), state, loss

    means = []
    for rate in rates:
        params, seen = init_params(jax.random.key(0)), []
        state = jax.jit(optimizer.init)(params)
        for step in range(steps):
            batch = batches[step]
            tokens_BT = np.concatenate([batch["tokens"], batch["targets"][:, -1:]], axis=1)
            hyper = optim.hyper_of(config) | {"lr": np.float32(rate)}
            params, state, loss = advance(params, state, np.int32(step), tokens_BT, hyper)
            seen.append(loss)
        mean = float(np.mean(jax.device_get(seen[-steps // 10 :])))
        means.append(mean if math.isfinite(mean) else math.inf)
    return means


def sweep(text: Path, widths: Sequence[int], exponents: Sequence[int], steps: int) -> dict:
    """scheme -> width -> {log2 of the learning rate: loss}."""
    found: dict = {scheme: {} for scheme in SCHEMES}
    fixed = dict(data__source=f"text(path={str(text)!r})", data__tokenizer="chars", train__steps=steps)
    fixed |= dict(optim__schedule="cosine(final=0.1)", optim__warmup=20)
    for scheme, width in tqdm([(scheme, width) for scheme in SCHEMES for width in widths]):
        values = final_losses(settings(scheme, width, **fixed), [2.0**e for e in exponents], steps)
        found[scheme][width] = dict(zip(exponents, values, strict=True))
    return found


def draw(found: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, (scheme, curves) in zip(axes, found.items(), strict=True):
        for i, (width, curve) in enumerate(curves.items()):
            shade = plt.get_cmap("viridis")(0.85 * i / max(len(curves) - 1, 1))
            points = sorted((int(e), loss) for e, loss in curve.items() if math.isfinite(loss))
            axis.plot(*zip(*points, strict=True), marker="o", color=shade, label=f"width {width}")
            low, high = basin(curve)
            axis.axvspan(low, high, ymax=0.04 * (i + 1), ymin=0.04 * i, color=shade, alpha=0.6, linewidth=0)
        axis.set(title=scheme, xlabel="log2 of the learning rate")
    axes[0].set_ylabel("training loss, nats per character")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)


def basin(curve: dict[str, float]) -> tuple[int, int]:
    """log2 of the least and the greatest learning rate whose loss is within 1% of the lowest: of a flat valley the single
    lowest point says little."""
    lowest = min(curve.values())
    inside = [int(exponent) for exponent, loss in curve.items() if loss <= (1 + FLOOR) * lowest]
    return min(inside), max(inside)


def tell(found: dict) -> None:
    for scheme, measured in found["slopes"].items():
        print(f"{scheme}: slopes of size against width: " + ", ".join(f"{k} {v:+.3f}" for k, v in measured.items()))
    for scheme, curves in found["losses"].items():
        valleys = {width: basin(curve) for width, curve in curves.items()}
        centres = [(low + high) / 2 for low, high in valleys.values()]
        told = ", ".join(f"{width}: {low}..{high}" for width, (low, high) in valleys.items())
        print(f"{scheme}: log2 of the rates within 1% of the lowest loss, by width: {told}")
        print(f"{scheme}: the middle of them moves by {max(centres) - min(centres):g} doublings")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data", type=Path, help="a text file; characters are its tokens. Without it, the stored results"
    )
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--exponents", type=int, nargs="+", default=list(range(-11, -4)))
    parser.add_argument("--steps", type=int, default=120)
    args = parser.parse_args()
    if args.data:
        coordinates = {scheme: slopes(scheme, [64, 128, 256, 512, 1024]) for scheme in SCHEMES}
        measured = {"slopes": coordinates, "losses": sweep(args.data, args.widths, args.exponents, args.steps)}
        RESULTS.write_text(json.dumps(measured, indent=1) + "\n")
    found = json.loads(RESULTS.read_text())
    tell(found)
    draw(found["losses"], FIGURE)


if __name__ == "__main__":
    main()
