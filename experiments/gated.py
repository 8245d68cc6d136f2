"""Does a gate in the MLP help at equal parameters?

Two layers of width 128 on the source code of Python's standard library, the MLPs of all arms as wide as makes their
parameters those of the arm with GELU. The learning rate is tuned for each arm. Shazeer (2020, table 1, log-perplexity of
held-out text after 65,536 steps) has 1.997 for ReLU, 1.983 for GELU, 1.944 for SwiGLU and 1.942 for GEGLU, with deviations
of 0.005 over four runs. At 300 steps no arm has converged: these are gains at an equal number of tokens, as the table's are.
"""

from gpt_jax.configs import quickstart
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep

EARLY, STEPS = 20, 300
THIN = "gelu, a quarter as wide"
ARMS = {"gelu": {}, "relu": {"model.mlp": "relu"}, "swiglu": {"model.mlp": "swiglu"}, "geglu": {"model.mlp": "geglu"}}
SHAZEER = "Shazeer 2020, table 1"
GAIN = "a gain of any size; the table's is eight of its own deviations"
SAME = "the table's difference is within its deviations, and a fifth of the gate's gain does not matter"


def sweep():
    c = quickstart.get_config()
    c.model.update(layers=2, width=128, heads=4, context=64, mlp="gelu")
    c.optim.update(warmup=20, lr=4e-3)
    c.train.update(steps=STEPS, batch=16, eval_every=EARLY, save_every=STEPS, eval_batches=60, tensorboard=False)
    c.train.keep_best = False
    c.sample.prompts = ()
    return Sweep(c, ARMS, seeds=(0, 1, 2, 3, 4, 5), match="params", tune="optim.lr", tune_seeds=(1000,))


def analyse(results):
    final, early = results.values(), results.values_at(EARLY)

    def gain(losses, better, over="gelu"):
        return [losses[over][seed] - losses[better][seed] for seed in results.seeds]

    long = {"300 steps against 20": [early["gelu"][seed] - final["gelu"][seed] for seed in results.seeds]}
    gains = [
        check_claim(
            f"gain of {arm} over GELU, nats a token",
            f"{published:.3f}",
            gain(final, arm),
            source=SHAZEER,
            least=0.0,
            reason=GAIN,
            expected=published,
            must_fail={"after 20 steps": gain(early, arm)},
            must_pass=long,
        )
        for arm, published in (("swiglu", 0.039), ("geglu", 0.041))
    ]
    same = check_claim(
        "gain of GEGLU over SwiGLU, nats a token",
        "0.002",
        gain(final, "geglu", "swiglu"),
        source=SHAZEER,
        least=-0.01,
        most=0.01,
        reason=SAME,
        expected=0.002,
        must_fail=long,
        must_pass={"SwiGLU and itself": gain(final, "swiglu", "swiglu")},
    )
    return [*gains, same]
