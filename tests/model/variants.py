"""Small models of every registered variant, for the tests that hold for all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.model import gpt

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
    "dropout": 0.0,
    "init": "gpt2",
    "dtype": "float32",
    "scan": False,
    "remat": "none",
}
KINDS = ("attention", "attend", "position", "norm", "mlp", "block")
VARIANTS = [(kind, name) for kind in KINDS for name in registry.names(f"model.{kind}")]
NAMES = [f"{kind}={name}" for kind, name in VARIANTS]


def config(**changes) -> ModelConfig:
    return ModelConfig(**(SMALL | changes))


@functools.lru_cache(maxsize=64)
def parameters(c: ModelConfig) -> dict:
    """Random ones, biases and scales included, so that no part of the model is without effect."""
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(functools.partial(gpt.init, c), jax.random.key(0))

    def fill(path, leaf):
        values = 0.3 * random.standard_normal(leaf.shape) + (path[-1].key == "scale")
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
def value_and_grad(c: ModelConfig, params: dict, tokens_BT, keys_B=None) -> tuple[jax.Array, dict]:
    """A scalar in which every logit counts differently, and its derivative by the parameters."""

    def value(params):
        logits_BTV = model(c, params)(tokens_BT, keys_B=keys_B)
        return jnp.sum(jax.nn.log_softmax(logits_BTV) * jax.random.normal(jax.random.key(5), logits_BTV.shape))

    return jax.value_and_grad(value)(params)
