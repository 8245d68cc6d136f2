"""Models with Gemma's blocks: ``--config=gemma:2-2b`` (Gemma 2, 2024) and ``:3-1b`` (Gemma 3, 2025).

Norms before and after each branch, embeddings times sqrt(width), GEGLU, most layers local. Gemma 2 caps scores and
logits; Gemma 3 normalises queries and keys instead, and its local layers have a rope of their own. How they were trained
is published in outline only: learning rate and batch are Llama's.
"""

from gpt_jax.configs import llama, pick

LOCAL = "sliding(window=512, qk_norm='rms', position='rope(theta=10000.0)')"
SIZES = {
    "2-2b": dict(width=2304, heads=8, kv_heads=4, mlp_width=9216, vocab=256000, position="rope", logit_softcap=30.0),
    "3-1b": dict(width=1152, heads=4, kv_heads=1, mlp_width=6912, vocab=262144, position="rope(theta=1000000.0)"),
}
ATTENTION = {
    "2-2b": ("sliding(window=4096, softcap=50.0)", "full(softcap=50.0)"),
    "3-1b": (*(4 * (*(5 * (LOCAL,)), "full(qk_norm='rms')")), LOCAL, LOCAL),
}


def get_config(size: str = "3-1b"):
    c = llama.get_config("7b")
    c.model.update(pick(SIZES, size), layers=26, head_dim=256, context=8192, block="sandwich", mlp="geglu", tied=True)
    c.model.update(norm="rmsnorm(eps=1e-6, plus_one=True)", embed_scale=c.model.width**0.5)
    c.model.attention = ATTENTION[size]
    c.data.tokenizer = "file(path='data/gemma/tokenizer.json', separator='<eos>')"
    c.train.batch = 512
    return c
