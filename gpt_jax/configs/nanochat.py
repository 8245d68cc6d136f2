"""A model with nanochat's blocks (Karpathy 2025) at its depth of 20: ``--config=nanochat``.

ReLU squared, normalised queries and keys, norms that train nothing, capped logits, Muon for matrices and AdamW for
tables. Its learning rates, as factors of Muon's 0.02: 10 for the embedding, 0.2 for the readout.
"""

from gpt_jax.configs import base


def get_config():
    c = base.get_config()
    c.model.update(layers=20, width=1280, heads=10, vocab=65536, context=2048, tied=False, bias=False, scan=True)
    c.model.update(attention="full(qk_norm='rms_plain')", position="rope", norm="rmsnorm(scale=False)", mlp="relu2")
    c.model.logit_softcap = 15.0
    c.data.tokenizer = "bpe(vocab_size=65536)"
    c.optim.update(lr=0.02, warmup=0, weight_decay=0.0, schedule="wsd(decay=0.2)", optimizer="muon")
    tables = "adamw(b1=0.8, b2=0.95, eps=1e-10)"
    c.optim.groups = (
        (r"embed/", {"optimizer": tables, "lr": 10.0}),
        (r"readout/", {"optimizer": tables, "lr": 0.2}),
        (r".*", {}),
    )
    c.train.update(steps=21_400, batch=256, accumulate=32, eval_every=250, save_every=1000)
    return c
