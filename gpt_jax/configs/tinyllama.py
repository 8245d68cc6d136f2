"""TinyLlama 1.1B (Zhang et al. 2024, table 2): Llama 2's blocks, trained on 3T tokens in steps of 2M."""

from gpt_jax.configs import llama


def get_config():
    c = llama.get_config("7b")
    c.model.update(layers=22, width=2048, heads=32, kv_heads=4, mlp_width=5632, norm="rmsnorm(eps=1e-5)")
    c.optim.lr = 4e-4
    c.train.update(steps=1_430_512, batch=1024)
    return c
