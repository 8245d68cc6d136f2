"""Parameter trees of shapes, as the model makes them."""

import jax
import jax.numpy as jnp


def params(layers=3, width=64, heads=4, kv_heads=2, head_dim=16, mlp=256, vocab=128, context=32, scanned=False):
    """A GPT's parameters as ShapeDtypeStructs; ``scanned`` stacks all layers under blocks/0."""
    D, N, K, H, F = width, heads, kv_heads, head_dim, mlp
    block = {
        "norm1": {"scale": (D,), "bias": (D,)},
        "attention": {
            "q": {"w": (D, N, H), "bias": (N, H)},
            "k": {"w": (D, K, H), "bias": (K, H)},
            "v": {"w": (D, K, H), "bias": (K, H)},
            "out": {"w": (N, H, D), "bias": (D,)},
        },
        "norm2": {"scale": (D,), "bias": (D,)},
        "mlp": {"up": {"w": (D, F), "bias": (F,)}, "down": {"w": (F, D), "bias": (D,)}},
    }
    tree = {
        "embed": {"tokens": {"w": (vocab, D)}, "position": {"w": (context, D)}},
        "blocks": {"0": stacked(block, layers)} if scanned else {str(i): block for i in range(layers)},
        "norm": {"scale": (D,), "bias": (D,)},
        "readout": {"w": (D, vocab)},
    }
    return structs(tree)


def stacked(tree, layers):
    return jax.tree.map(lambda shape: (layers, *shape), tree, is_leaf=lambda x: isinstance(x, tuple))


def structs(tree):
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32), tree, is_leaf=lambda x: isinstance(x, tuple)
    )
