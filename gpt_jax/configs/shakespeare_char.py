"""nanoGPT's GPU run on tinyshakespeare characters: 10.7M parameters, published best validation loss 1.4697.

Give it the text: ``--config.data.source="text(path='shakespeare.txt')"``.
"""

from gpt_jax.configs import nanogpt_cpu


def get_config():
    c = nanogpt_cpu.get_config()
    c.model.update(layers=6, width=384, heads=6, context=256, dropout=0.2)
    c.train.update(steps=5000, batch=64, eval_batches=0, save_every=250)
    return c
