"""Pythia in its eight sizes (Biderman et al. 2023, table 1): ``--config=pythia:70m``.

GPT-NeoX's blocks. The tokenizer has 50,277 ids; the vocabulary is padded so that it divides over the devices that each
size was trained on. 143,000 steps of 2M tokens.
"""

from gpt_jax.configs import base, pick

SIZES = {
    "70m": dict(layers=6, width=512, heads=8, lr=1e-3, vocab=50304),
    "160m": dict(layers=12, width=768, heads=12, lr=6e-4, vocab=50304),
    "410m": dict(layers=24, width=1024, heads=16, lr=3e-4, vocab=50304),
    "1b": dict(layers=16, width=2048, heads=8, lr=3e-4, vocab=50304),
    "1.4b": dict(layers=24, width=2048, heads=16, lr=2e-4, vocab=50304),
    "2.8b": dict(layers=32, width=2560, heads=32, lr=1.6e-4, vocab=50304),
    "6.9b": dict(layers=32, width=4096, heads=32, lr=1.2e-4, vocab=50432),
    "12b": dict(layers=36, width=5120, heads=40, lr=1.2e-4, vocab=50688),
}


def get_config(size: str = "70m"):
    row, c = dict(pick(SIZES, size)), base.get_config()
    c.optim.update(lr=row.pop("lr"), warmup=1430)
    c.model.update(row, context=2048, block="parallel(shared_norm=False)", mlp="gelu_erf", tied=False, scan=True)
    c.model.update(position="rope(fraction=0.25)", init="small")
    c.data.tokenizer = "file(path='data/pythia/tokenizer.json')"
    c.train.update(steps=143_000, batch=1024, eval_every=1000, save_every=1000)
    return c
