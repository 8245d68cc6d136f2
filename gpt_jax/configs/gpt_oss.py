"""A model with gpt-oss-20b's blocks (OpenAI 2025): 32 experts of which 4 are passed, sinks, every other layer local.

How it was trained is not published: learning rate and batch are Llama's.
"""

from gpt_jax.configs import llama

SCALING = {"kind": "yarn", "factor": 32.0, "original": 4096, "truncate": False}


def get_config():
    c = llama.get_config("7b")
    c.model.update(layers=24, width=2880, heads=64, kv_heads=8, head_dim=64, mlp_width=2880, vocab=201088, context=4096)
    c.model.update(
        mlp="moe(experts=32, top_k=4, activation='clamped_swiglu')",
        bias=("qkv", "out", "mlp", "router"),
        norm="rmsnorm(eps=1e-5)",
    )
    c.model.attention = ("sliding(window=128, sink=True)", "full(sink=True)")
    c.model.position = f"rope(theta=150000.0, scaling={SCALING})"
    c.data.tokenizer = "file(path='data/gpt_oss/tokenizer.json')"
    c.train.batch = 1024
    return c
