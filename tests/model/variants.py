"""Small models of every registered variant, for the tests that hold for all of them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
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
# Around which values parameters are drawn, where it is not 0.
CENTRES = {"scale": 1.0, "before": 1.0, "after": 1.0, "value_mix": 1.0, "length": 6.0}


def calls(kind: str) -> list[str]:
    """The examples of every variant of a kind."""
    return [call for name in registry.names(f"model.{kind}") for call in registry.examples(f"model.{kind}", name)]


# One module computes all of these; tests/model/test_parts.py compares each with its formula.
ALIKE = {*ACTIVATIONS, *GATES} - {"gelu", "swiglu"}
VARIANTS = [(kind, call) for kind in KINDS for call in calls(kind) if call not in ALIKE]
NAMES = [f"{kind}={name}" for kind, name in VARIANTS]


def config(**changes) -> ModelConfig:
    c = ModelConfig(**(SMALL | changes))
    return c if "kv_heads" in changes or all(map(_groups, c.attentions)) else dataclasses.replace(c, kv_heads=c.heads)


@functools.cache
def _groups(mechanism: str) -> bool:
    """Whether a mechanism can have fewer key/value heads than heads; one that refuses them is tested with as many."""
    try:
        _built(mechanism, SMALL["kv_heads"])
    except UserError:
        return False
    return True


@functools.cache
def has_backend(mechanism: str) -> bool:
    """Whether a mechanism is computed by the backend that ``model.attend`` names, as those over a softmax are."""
    return hasattr(_built(mechanism, SMALL["heads"]), "backend")


def _built(mechanism: str, kv_heads: int) -> nnx.Module:
    c = ModelConfig(**(SMALL | {"position": "none", "attend": "reference", "kv_heads": kv_heads}))
    return nnx.eval_shape(lambda: registry.build("model.attention", mechanism, c, nnx.Rngs(0)))


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
