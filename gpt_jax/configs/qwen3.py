"""Models with Qwen 3's blocks (Yang et al. 2025, table 1): ``--config=qwen3:0.6b``.

Llama's blocks with normalised queries and keys and a head dim of its own; the smaller ones tie the readout. How they
were trained is published in outline only: learning rate and batch are Llama's.
"""

from gpt_jax.configs import llama, pick

SIZES = {
    "0.6b": dict(layers=28, width=1024, heads=16, mlp_width=3072, tied=True),
    "1.7b": dict(layers=28, width=2048, heads=16, mlp_width=6144, tied=True),
    "4b": dict(layers=36, width=2560, heads=32, mlp_width=9728, tied=True),
    "8b": dict(layers=36, width=4096, heads=32, mlp_width=12288, tied=False),
}


def get_config(size: str = "0.6b"):
    c = llama.get_config("7b")
    c.model.update(pick(SIZES, size), kv_heads=8, head_dim=128, vocab=151936, context=4096)
    c.model.update(attention="full(qk_norm='rms')", position="rope(theta=1000000.0)")
    c.data.tokenizer = "file(path='data/qwen3/tokenizer.json')"
    c.train.batch = 1024
    return c
