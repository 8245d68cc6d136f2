"""Where should norms stand, and what do they do to gradients at the start?

At initialisation, the gradient of the last layer's MLP falls with the square root of the depth where norms stand before
the branches, and keeps its size where they stand after them (Xiong et al. 2020, theorem 1, with Xavier's initialisation);
so that only the former can be trained without warmup. GPT-2's factor 1/sqrt(2 layers) keeps the variance of the residual
stream from growing with depth (Radford et al. 2019, section 2.3). Width 64; depths 2 to 24 at the start, 2 and 24 trained
without warmup for 400 steps.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.configs import quickstart
from gpt_jax.interpret import residual_stream
from gpt_jax.model import gpt
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep, finished_runs

DEPTHS = (2, 6, 12, 24)
TRAINED = (2, 24)
PLACES = {
    "pre": {},
    "post": {"model.block": "post"},
    "sandwich": {"model.block": "sandwich"},
    "no norm": {"model.norm": "none"},
}
XIONG = "Xiong et al. 2020, theorem 1"


def sweep():
    c = quickstart.get_config()
    c.model.update(width=64, heads=2, context=64, init="xavier")
    c.optim.update(warmup=0, lr=1e-3, schedule="constant")
    c.train.update(
        steps=400, batch=12, eval_every=100, save_every=400, eval_batches=60, on_nonfinite="skip", tensorboard=False
    )
    c.sample.prompts = ()
    arms = {
        f"{place}, {depth} layers": {"model.layers": depth, **overrides}
        for place, overrides in PLACES.items()
        for depth in TRAINED
    }
    return Sweep(c, arms, seeds=(0, 1, 2), baseline=None)


def analyse(results):
    model = finished_runs.config_of(next(iter(results.done("pre, 2 layers").values()))).model
    pre, post = (
        [slope(model, results.seeds[i], block, gradient) for i in range(len(results.seeds))]
        for block in ("pre", "post")
    )
    scaled, plain = (
        [
            slope(dataclasses.replace(model, init=init, norm="layernorm"), seed, "pre", variance)
            for seed in results.seeds
        ]
        for init in ("gpt2", "normal")
    )
    values = results.values()
    worse = [values["post, 24 layers"][seed] - values["pre, 24 layers"][seed] for seed in results.seeds]
    radford = "Radford et al. 2019, section 2.3"
    return [
        check_claim(
            "norms before: gradient of the last MLP ~ depth^a, a", f"-1/2 ({XIONG})", pre, least=-0.65, most=-0.35
        ),
        check_claim("norms after: the same", f"0 ({XIONG})", post, least=-0.15, most=0.15),
        check_claim(
            "24 layers without warmup: norms after - before, nats", "trains worse (section 4)", worse, least=0.0
        ),
        check_claim(
            "GPT-2's initialisation: variance of the stream ~ depth^a, a",
            f"0 ({radford})",
            scaled,
            least=-0.15,
            most=0.15,
        ),
        check_claim("without its factor: the same", f"1 ({radford})", plain, least=0.5, most=1.2),
    ]


def slope(model, seed: int, block: str, measure) -> float:
    """The power of the depth with which a quantity grows at initialisation."""
    found = [measure(dataclasses.replace(model, layers=depth, block=block), seed) for depth in DEPTHS]
    return float(np.polyfit(np.log(DEPTHS), np.log(found), 1)[0])


start = functools.partial(jax.jit, static_argnums=0)(gpt.init)


def text(model, seed: int) -> jax.Array:
    return jax.random.randint(jax.random.key(1000 + seed), (8, model.context + 1), 0, model.vocab)


def gradient(model, seed: int) -> float:
    """The norm of the gradient of the last layer's second MLP matrix, on random tokens."""
    tokens_BT = text(model, seed)
    return float(_norm(model, start(model, jax.random.key(seed)), tokens_BT))


@functools.partial(jax.jit, static_argnums=0)
def _norm(model, params, tokens_BT) -> jax.Array:
    last = str(model.layers - 1)

    def loss(w):
        mlp = {**params["blocks"][last]["mlp"], "down": {**params["blocks"][last]["mlp"]["down"], "w": w}}
        changed = {**params, "blocks": {**params["blocks"], last: {**params["blocks"][last], "mlp": mlp}}}
        return residual_stream.token_losses(model, changed, tokens_BT[:, :-1], tokens_BT[:, 1:]).mean()

    return jnp.linalg.norm(jax.grad(loss)(params["blocks"][last]["mlp"]["down"]["w"]))


def variance(model, seed: int) -> float:
    """How much the layers add to the variance of the stream."""
    streams_LBTD = residual_stream.streams(model, start(model, jax.random.key(seed)), text(model, seed)[:, :-1])
    return float(np.var(streams_LBTD[-1] - streams_LBTD[0]))
