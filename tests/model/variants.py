"""Small models of every registered variant, for the tests that hold for all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.model import gpt
from gpt_jax.model.mlp.activations import ACTIVATIONS, GATES

SMALL = {
    "layers": 2,
    "width": 16,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 4,
    "mlp_width": 24,
    "vocab": 37,
    "context": 24,
    "attention": "full",
    "attend": "auto",
    "position": "learned",
    "norm": "layernorm",
    "mlp": "gelu",
    "block": "pre",
    "tied": True,
    "bias": True,
    "embed_scale": 1.0,
    "logit_softcap": 0.0,
    "dropout": 0.0,
    "init": "gpt2",
    "dtype": "float32",
    "scan": False,
    "remat": "none",
}
KINDS = ("attention", "attend", "position", "norm", "mlp", "block")
# How a variant is called where its bare name will not do, and further calls that go other ways through its code.
CALLS = {
    "sliding": ["sliding(window=3)"],
    "chunked": ["chunked(size=4)"],
    "strided": ["strided(stride=3)"],
    "latent": ["latent(rank=6)", "latent(rank=6, rope_dim=2, q_rank=4)"],
    "full": [
        "full",
        "full(qk_norm='rms', softcap=2.0, sink=True)",
        "full(qk_norm='l2', gate=True, head_scale=True)",
        "full(qk_norm='rms_plain', value_residual=True, scale=0.3, position='rope(theta=100.0)')",
    ],
    "differential": ["differential", "differential(window=3)"],
    "rope": ["rope", "rope(fraction=0.5, interleaved=True, scaling={'kind': 'yarn', 'factor': 2.0})"],
    "rmsnorm": ["rmsnorm", "rmsnorm(bias=True, plus_one=True)"],
    "pre": ["pre", "pre(shortcut=1.5, branch=0.5, embed_skip=True)"],
    "post": ["post", "post(deepnorm=True, embed_skip=True)"],
    "parallel": ["parallel", "parallel(shared_norm=False, branch=0.5)"],
    "moe": [
        "moe(experts=4, z=0.1)",
        "moe(experts=4, activation='relu', router='sigmoid', shared=1, bias_balance=True)",
    ],
}
BACKENDS = {
    "chunked": ["chunked(block=4)"],
    "cudnn": ["cudnn(interpret=True)"],
    "pallas": ["pallas(block=16, interpret=True)"],
    "splash": ["splash(interpret=True)"],
}
# What a variant asks of the rest of the model.
NEEDS = {"latent": {"kv_heads": 4}, "talking_heads": {"dropout": 0.0}}


# Around which values parameters are drawn, where it is not 0.
CENTRES = {"scale": 1.0, "before": 1.0, "after": 1.0, "value_mix": 1.0, "length": 6.0}


def _variants(kind: str) -> list[tuple[str, str]]:
    calls = BACKENDS if kind == "attend" else CALLS
    return [(kind, call) for name in registry.names(f"model.{kind}") for call in calls.get(name, [name])]


# One module computes all of these; tests/model/test_parts.py compares each with its formula.
ALIKE = {*ACTIVATIONS, *GATES} - {"gelu", "swiglu"}
VARIANTS = [variant for kind in KINDS for variant in _variants(kind) if variant[1] not in ALIKE]
NAMES = [f"{kind}={name}" for kind, name in VARIANTS]


def config(**changes) -> ModelConfig:
    needs: dict = {}
    for call in changes.values():
        needs |= NEEDS.get(call.partition("(")[0], {}) if isinstance(call, str) else {}
    return ModelConfig(**(SMALL | needs | changes))


@functools.cache
def parameters(c: ModelConfig) -> dict:
    """Random ones, biases and scales included, so that no part of the model is without effect."""
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(functools.partial(gpt.init, c), jax.random.key(0))

    def fill(path, leaf):
        values = 0.3 * random.standard_normal(leaf.shape) + CENTRES.get(path[-1].key, 0.0)
        return jnp.asarray(values, leaf.dtype)

    return jax.tree.map_with_path(fill, shapes)


def model(c: ModelConfig, params: dict) -> nnx.Module:
    return nnx.merge(gpt.graphdef(c), params)


def tokens(c: ModelConfig, batch: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(c.vocab, size=(batch, length)).astype(np.int32)


@functools.partial(jax.jit, static_argnums=0)
def logits(c: ModelConfig, params: dict, tokens_BT, positions_BT=None, segments_BT=None, keys_B=None) -> jax.Array:
    return model(c, params)(tokens_BT, positions_BT, segments_BT, keys_B)


@functools.partial(jax.jit, static_argnums=0)
def terms_and_grad(c: ModelConfig, params: dict, tokens_BT, keys_B=None) -> tuple[jax.Array, dict]:
    """The terms of a sum in which every logit counts differently, and the derivative of the sum by the parameters; what
    layers report of their losses counts too. The sum itself may come near zero, where rounding is all of it."""

    def value(params):
        m = model(c, params)
        x_BTD, report = m.hidden(tokens_BT, keys_B=keys_B)
        logits_BTV = m.logits(x_BTD)
        weighed = jax.nn.log_softmax(logits_BTV) * jax.random.normal(jax.random.key(5), logits_BTV.shape)
        terms = jnp.append(weighed, report.get("moe_loss", jnp.zeros(1)).sum())
        return jnp.sum(terms), terms

    grads, terms = jax.grad(value, has_aux=True)(params)
    return terms, grads
