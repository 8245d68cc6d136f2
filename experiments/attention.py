"""Which attention is best at equal parameters?

Seven mechanisms in a GPT of 4 layers and width 128, on the source code of Python's standard library. The MLP of every arm
is as wide as makes its parameters those of full attention, to 1%. Full attention (MHA) is the baseline; a difference of
0.005 nats a token does not matter here. Shazeer (2019) and Ainslie et al. (2023) report that one shared key and value head
(MQA) costs quality and that a few (GQA) cost little; Ye et al. (2024) that differential attention gains. The norm behind
its heads makes their output as large as embeddings of order one, and GPT-2's are of 0.02. So it is compared a second time
where embeddings are multiplied by sqrt(width), to 0.23, in both arms.
"""

from gpt_jax.configs import quickstart
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep

WIDTH = 128
LARGE = {"model.embed_scale": WIDTH**0.5}
ARMS = {
    "MHA": {},
    "GQA": {"model.kv_heads": 2},
    "MQA": {"model.kv_heads": 1},
    "MLA": {"model.attention": "latent(rank=64, rope_dim=16)"},
    "sliding": {"model.attention": ["sliding(window=32)", "sliding(window=32)", "sliding(window=32)", "full"]},
    "linear": {"model.attention": "linear"},
    "differential": {"model.attention": "differential"},
    "MHA, large embeddings": LARGE,
    "differential, large embeddings": {"model.attention": "differential", **LARGE},
}


def sweep():
    c = quickstart.get_config()
    c.model.update(width=WIDTH, heads=4, position="rope")
    c.train.update(steps=300, eval_every=100, save_every=150, eval_batches=0)
    c.sample.prompts = ()
    return Sweep(c, ARMS, seeds=(0, 1, 2), margin=0.005, match="params")


def analyse(results):
    losses = results.values()

    def gap(arm, other):
        return [losses[arm][seed] - losses[other][seed] for seed in results.seeds]

    large = gap("differential, large embeddings", "MHA, large embeddings")
    return [
        check_claim("MQA - MHA, nats a token", "a little worse (Shazeer 2019, table 1)", gap("MQA", "MHA"), least=0.0),
        check_claim(
            "GQA - MQA, nats a token", "between MQA and MHA (Ainslie et al. 2023)", gap("GQA", "MQA"), most=0.0
        ),
        check_claim(
            "differential - MHA, nats a token", "better (Ye et al. 2024)", gap("differential", "MHA"), most=0.0
        ),
        check_claim("the same with large embeddings", "better (Ye et al. 2024)", large, most=0.0),
    ]
