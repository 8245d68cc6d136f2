"""Which attention is best at equal parameters?

Seven mechanisms in a GPT of 4 layers and width 128, on the source code of Python's standard library. The MLP of every arm
is as wide as makes its parameters those of full attention, to 1%. Full attention (MHA) is the baseline; a difference of
0.005 nats a token does not matter here. Shazeer (2019) and Ainslie et al. (2023) report that one shared key and value head
(MQA) costs quality and that a few (GQA) cost little; Ye et al. (2024) that differential attention gains.
"""

from configs import quickstart
from gpt_jax.study.sweep import Sweep

ARMS = {
    "MHA": {},
    "GQA": {"model.kv_heads": 2},
    "MQA": {"model.kv_heads": 1},
    "MLA": {"model.attention": "latent(rank=64, rope_dim=16)"},
    "sliding": {"model.attention": ["sliding(window=32)", "sliding(window=32)", "sliding(window=32)", "full"]},
    "linear": {"model.attention": "linear"},
    "differential": {"model.attention": "differential"},
}


def sweep():
    c = quickstart.get_config()
    c.model.update(width=128, heads=4, position="rope")
    c.train.update(steps=300, eval_every=100, save_every=150, eval_batches=0)
    c.sample.prompts = ()
    return Sweep(c, ARMS, seeds=(0, 1, 2), margin=0.005, match="params")
