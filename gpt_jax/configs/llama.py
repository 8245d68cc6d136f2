"""Llama 1 to 3 (Touvron et al. 2023; Grattafiori et al. 2024): ``--config=llama:7b``.

RMSNorm, rotary positions, SwiGLU, no biases; grouped heads from Llama 2's 70B on. 4M tokens a step.
"""

from gpt_jax.configs import base, pick

SIZES = {
    "7b": dict(layers=32, width=4096, heads=32, mlp_width=11008, vocab=32000, context=2048),
    "13b": dict(layers=40, width=5120, heads=40, mlp_width=13824, vocab=32000, context=2048),
    "llama2-70b": dict(layers=80, width=8192, heads=64, kv_heads=8, mlp_width=28672, vocab=32000, context=4096),
    "llama3-8b": dict(layers=32, width=4096, heads=32, kv_heads=8, mlp_width=14336, vocab=128256, context=8192),
}
LR = {"7b": 3e-4, "13b": 3e-4, "llama2-70b": 1.5e-4, "llama3-8b": 3e-4}
TOKENS = {"7b": 1.0e12, "13b": 1.0e12, "llama2-70b": 2.0e12, "llama3-8b": 15e12}


def get_config(size: str = "7b"):
    c = base.get_config()
    c.model.update(pick(SIZES, size), mlp="swiglu", tied=False, bias=False, scan=True)
    c.model.position = "rope(theta=500000.0)" if size == "llama3-8b" else "rope"
    c.model.norm = "rmsnorm(eps=1e-6)" if size in ("7b", "13b") else "rmsnorm(eps=1e-5)"
    separator = "<|end_of_text|>" if size == "llama3-8b" else "</s>"
    c.data.tokenizer = f"file(path='data/llama/tokenizer.json', separator={separator!r})"
    c.optim.update(lr=LR[size], warmup=2000)
    batch = 2**22 // c.model.context
    c.train.update(steps=int(TOKENS[size] / 2**22), batch=batch, eval_every=1000, save_every=1000)
    return c
