"""nanoGPT's CPU run on tinyshakespeare characters: 0.80M parameters, published validation loss 1.88 (its README).

Give it the text: ``--config.data.source="text(path='shakespeare.txt')"``.
"""

from gpt_jax.configs import base


def get_config():
    c = base.get_config()
    c.model.update(layers=4, width=128, heads=4, context=64, bias=False)
    c.data.source = "text(path='data/tinyshakespeare.txt')"
    c.data.tokenizer = "chars"
    c.optim.update(lr=1e-3, warmup=100, optimizer="adamw(b1=0.9, b2=0.99, eps=1e-8)")
    c.train.update(steps=2000, batch=12, eval_every=250, eval_batches=20, save_every=2000, log_every=50)
    c.sample.prompts = ("\n",)
    return c
