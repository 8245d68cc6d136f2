"""What do fewer heads of keys and values cost, and does differential attention gain, at equal parameters?

Two layers of width 64 on the source code of Python's standard library, 300 steps, a learning rate tuned for each arm. The
MLP of every arm is as wide as makes its parameters those of full attention, to 1%. Shazeer (2019, table 1) has a
log-perplexity of 1.424 for attention with all heads (MHA), and of 1.439 where keys and values have one (MQA); Ainslie et al.
(2023, figure 3) find that a few of them (GQA) are nearly as good as all. Ye et al. (2024, figure 3 and table 1) find
differential attention better. The norm behind its heads makes their output as large as embeddings of order one, so that
it is compared where embeddings are multiplied to that, in both arms. No arm has converged: these are differences at an equal
number of tokens.
"""

from gpt_jax.configs import tiny
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import NOISE, Sweep

EARLY, STEPS = 50, 300
LARGE = {"model.embed_scale": 11.0}  # 1 / the deviation of the first embeddings
MHA_LARGE, DIFFERENTIAL = "MHA, large embeddings", "differential, large embeddings"
ARMS = {
    "MHA": {},
    "GQA": {"model.kv_heads": 2},
    "MQA": {"model.kv_heads": 1},
    MHA_LARGE: LARGE,
    DIFFERENTIAL: {"model.attention": "differential", **LARGE},
}


def sweep():
    c = tiny.get_config()
    c.model.update(heads=4, position="rope")
    c.optim.update(warmup=50, lr=8e-3)
    c.train.update(steps=STEPS, eval_every=EARLY, save_every=STEPS, eval_batches=40)
    how = {"match": "params", "tune": "optim.lr", "tune_seeds": (1000,)}
    return Sweep(c, ARMS, seeds=tuple(range(12)), margin=0.005, noise=True, **how)


def analyse(results):
    last, early = results.values(), results.values_at(EARLY)

    def more(one: str, other: str) -> list[float]:
        return differences(last[one].values(), last[other].values())

    again = {"MHA from other initial values - MHA": more(NOISE, "MHA")}
    learned = differences(early["MHA"].values(), last["MHA"].values())
    worse = check_claim(
        "MQA - MHA, nats a token",
        "0.015",
        more("MQA", "MHA"),
        least=0.005,
        source="Shazeer 2019, table 1",
        reason="a third of the table's difference",
        expected=0.015,
        must_fail=again,
        must_pass={f"MHA: after {EARLY} steps - at the end": learned},
    )
    better = [
        check_claim(
            f"{one} - {other}, nats a token",
            published,
            more(one, other),
            most=-0.005,
            source=source,
            reason="lower by more than 0.005 nats, a third of what separates MQA from MHA there",
            expected=-0.015,
            must_fail=again,
            must_pass={f"MHA: at the end - after {EARLY} steps": [-gain for gain in learned]},
        )
        for one, other, published, source in (
            ("GQA", "MQA", "better", "Ainslie et al. 2023, figure 3"),
            (DIFFERENTIAL, MHA_LARGE, "better", "Ye et al. 2024, figure 3 and table 1"),
        )
    ]
    return [worse, *better]
