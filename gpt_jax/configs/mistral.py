"""Mistral 7B (Jiang et al. 2023, table 1): Llama's blocks, grouped heads, the last 4096 tokens seen by each layer.

How it was trained is not published; the learning rate and batch are Llama's.
"""

from gpt_jax.configs import llama


def get_config():
    c = llama.get_config("7b")
    c.model.update(kv_heads=8, mlp_width=14336, context=8192, norm="rmsnorm(eps=1e-5)")
    c.model.attention = "sliding(window=4096)"
    c.data.tokenizer = "file(path='data/mistral/tokenizer.json', separator='</s>')"
    c.train.batch = 512
    return c
