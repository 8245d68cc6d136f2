"""GPT-3 in its eight sizes (Brown et al. 2020, table 2.1): ``--config=gpt3:175b``.

Two rows of the table contradict themselves. XL: 24 heads of 128 are not the width 2048; 13B: width 5140 is not 40 heads
of 128. The parameters (1,320M and 12,850M) and FLOPs of table D.1 fit 16 heads and width 5120, which stand here.
Every other layer is "locally banded" in a way that is not published: here it sees the last 128 tokens, as in the sparse
transformer that the paper follows (Child et al. 2019, section 7.2). 300B tokens; the paper's cosine ends at 260B.
"""

from gpt_jax.configs import base, pick

SIZES = {  # batch in sequences of 2048 tokens
    "small": dict(layers=12, width=768, heads=12, lr=6e-4, batch=256),
    "medium": dict(layers=24, width=1024, heads=16, lr=3e-4, batch=256),
    "large": dict(layers=24, width=1536, heads=16, lr=2.5e-4, batch=256),
    "xl": dict(layers=24, width=2048, heads=16, lr=2e-4, batch=512),
    "2.7b": dict(layers=32, width=2560, heads=32, lr=1.6e-4, batch=512),
    "6.7b": dict(layers=32, width=4096, heads=32, lr=1.2e-4, batch=1024),
    "13b": dict(layers=40, width=5120, heads=40, lr=1e-4, batch=1024),
    "175b": dict(layers=96, width=12288, heads=96, lr=0.6e-4, batch=1600),
}


def get_config(size: str = "small"):
    row, c = pick(SIZES, size), base.get_config()
    c.model.update(layers=row["layers"], width=row["width"], heads=row["heads"], vocab=50257, context=2048, scan=True)
    c.model.attention = ("full", "sliding(window=128)")
    c.data.tokenizer = "gpt2(path='data/gpt2_bpe')"
    c.optim.update(lr=row["lr"], warmup=375_000_000 // (2048 * row["batch"]))
    c.train.update(steps=300_000_000_000 // (2048 * row["batch"]), batch=row["batch"], eval_every=1000, save_every=1000)
    return c
