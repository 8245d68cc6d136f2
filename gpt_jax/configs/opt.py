"""OPT (Zhang et al. 2022, table 1): ``--config=opt:125m``. GPT-3's shapes with ReLU; 300B tokens.

350m is left out: it has its norms after the branches and embeds 512 channels that a matrix widens to 1024, which no
knob says. The published tables of positions have two unused rows in front, which are not counted here.
"""

from gpt_jax.configs import base, pick

SIZES = {  # batch in sequences of 2048 tokens
    "125m": dict(layers=12, width=768, heads=12, lr=6e-4, batch=256),
    "1.3b": dict(layers=24, width=2048, heads=32, lr=2e-4, batch=512),
    "2.7b": dict(layers=32, width=2560, heads=32, lr=1.6e-4, batch=512),
    "6.7b": dict(layers=32, width=4096, heads=32, lr=1.2e-4, batch=1024),
    "13b": dict(layers=40, width=5120, heads=40, lr=1e-4, batch=2048),
    "30b": dict(layers=48, width=7168, heads=56, lr=1e-4, batch=2048),
    "66b": dict(layers=64, width=9216, heads=72, lr=0.8e-4, batch=1024),
}


def get_config(size: str = "125m"):
    row, c = pick(SIZES, size), base.get_config()
    c.model.update(layers=row["layers"], width=row["width"], heads=row["heads"], vocab=50272, context=2048, scan=True)
    c.model.update(mlp="relu", dropout=0.1)
    c.data.tokenizer = "file(path='data/opt/tokenizer.json')"
    c.optim.update(lr=row["lr"], warmup=375_000_000 // (2048 * row["batch"]), schedule="linear(final=0.1)")
    c.train.update(steps=300_000_000_000 // (2048 * row["batch"]), batch=row["batch"], eval_every=1000, save_every=1000)
    return c
