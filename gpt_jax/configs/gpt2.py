"""GPT-2 in its four sizes: ``--config=gpt2:124m`` (355m, 774m, 1558m).

Radford et al. 2019, table 2; the paper's own parameter counts (117M to 1542M) are a known misprint.
The batch is the paper's, 512 sequences (section 2.3), in micro-batches of 32, which divide over 8, 16 and 32 devices. The
learning rates are GPT-3's for the same sizes (Brown et al. 2020, table 2.1); the paper gives none.
"""

from gpt_jax.configs import base, pick

SIZES = {
    "124m": dict(layers=12, width=768, heads=12),
    "355m": dict(layers=24, width=1024, heads=16),
    "774m": dict(layers=36, width=1280, heads=20),
    "1558m": dict(layers=48, width=1600, heads=25),
}
LR = {"124m": 6e-4, "355m": 3e-4, "774m": 2.5e-4, "1558m": 2e-4}


def get_config(size: str = "124m"):
    c = base.get_config()
    c.model.update(pick(SIZES, size), vocab=50257, context=1024, scan=True)
    c.data.tokenizer = "gpt2(path='data/gpt2_bpe')"
    c.optim.update(lr=LR[size], warmup=2000)
    c.train.update(steps=600_000, batch=512, accumulate=16, eval_every=1000, save_every=1000)
    return c
