"""GPT-1 (Radford et al. 2018, section 4.1): norms after the branches, 117M parameters.

Its vocabulary of 40,000 merges was learned from BooksCorpus; one of the same size is learned from the data given here,
which needs enough of them. The paper's 100 epochs are counted in steps of its corpus.
"""

from gpt_jax.configs import base


def get_config():
    c = base.get_config()
    c.model.update(layers=12, width=768, heads=12, vocab=40478, context=512, block="post", dropout=0.1, init="normal")
    c.model.scan = True
    c.data.tokenizer = "bpe(vocab_size=40478)"
    c.optim.update(lr=2.5e-4, warmup=2000, weight_decay=0.01, schedule="cosine(final=0.0)", clip=1.0)
    c.optim.optimizer = "adamw(b1=0.9, b2=0.999, eps=1e-8)"
    c.train.update(steps=3_000_000, batch=64, eval_every=5000, save_every=5000)
    return c
