"""The small Llamas of llama2.c, trained on TinyStories (Eldan & Li 2023): ``--config=stories:15m``.

Sizes as in llama2.c's README; its learning rate and batch of about 131,072 tokens. 260k has a vocabulary of its own, the
others Llama's.
"""

from gpt_jax.configs import base, pick

SIZES = {
    "260k": dict(layers=5, width=64, heads=8, kv_heads=4, mlp_width=172, vocab=512, context=512),
    "15m": dict(layers=6, width=288, heads=6, mlp_width=768, vocab=32000, context=256),
    "42m": dict(layers=8, width=512, heads=8, mlp_width=1376, vocab=32000, context=1024),
    "110m": dict(layers=12, width=768, heads=12, mlp_width=2048, vocab=32000, context=1024),
}


def get_config(size: str = "15m"):
    c = base.get_config()
    c.model.update(pick(SIZES, size), position="rope", norm="rmsnorm", mlp="swiglu", bias=False)
    own = size == "260k"
    c.data.source = "text(path='data/tinystories.txt')"
    c.data.tokenizer = "bpe(vocab_size=512)" if own else "file(path='data/llama/tokenizer.json', separator='</s>')"
    c.optim.update(lr=5e-4, warmup=1000, schedule="cosine(final=0.0)")
    c.train.update(steps=100_000, batch=131_072 // c.model.context, eval_every=2000, save_every=2000)
    return c
