"""GPT-J 6B: parallel branches under one norm, a quarter of each head turned in neighbouring pairs.

Wang & Komatsuzaki 2021, the published model's card: 383,500 steps of 2^20 tokens. GPT-2's tokenizer; the vocabulary is
padded to 50,400.
"""

from gpt_jax.configs import base


def get_config():
    c = base.get_config()
    c.model.update(layers=28, width=4096, heads=16, vocab=50400, context=2048, block="parallel", tied=False, scan=True)
    c.model.update(position="rope(fraction=0.25, interleaved=True)", bias=("mlp", "norm", "readout"))
    c.data.tokenizer = "gpt2(path='data/gpt2_bpe')"
    c.optim.update(lr=1.2e-4, warmup=3000)
    c.train.update(steps=383_500, batch=512, eval_every=1000, save_every=1000)
    return c
