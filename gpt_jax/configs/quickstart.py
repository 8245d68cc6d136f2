"""A GPT that learns Python from the interpreter's own standard library in two minutes on two CPU cores."""

from gpt_jax.configs import base


def get_config():
    c = base.get_config()
    c.model.update(layers=4, width=192, heads=6, context=128, bias=False)
    c.data.tokenizer = "bpe(vocab_size=1024)"
    c.optim.update(lr=3e-3, warmup=50, optimizer="adamw(b1=0.9, b2=0.99, eps=1e-8)")
    c.train.update(steps=500, batch=12, eval_every=250, save_every=250, log_every=10)
    c.sample.prompts = ("def ", "import ", "class ")
    return c
