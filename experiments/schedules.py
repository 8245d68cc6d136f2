"""Does it matter how the learning rate comes down, and does an average of the parameters do as well?

Two layers of width 64 on the source code of Python's standard library, 400 steps, a peak rate tuned for each schedule. The
baseline is a cosine to a tenth of the peak. Hägele et al. (2024, "Scaling laws and compute-optimal training beyond fixed
training durations", section 4) find that a constant rate with a short cooldown, which needs no length fixed beforehand,
reaches the same loss; that a constant rate ends higher; and that averaging its parameters recovers a part of the difference.
Bergsma et al. (2025, "Straight to zero", section 4) find a straight line to zero better than the cosine to a tenth.
"""

from gpt_jax.configs import tiny
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import NOISE, Sweep

EARLY, STEPS = 20, 400
COSINE, LINE, COOLED, FLAT, MEAN = "cosine to 10%", "line to 0", "constant, cooldown of a fifth", "constant", "average"
NEARLY = "cosine to 9%"
CONSTANT = {"optim.schedule": "constant"}
ARMS = {
    COSINE: {"optim.schedule": "cosine(final=0.1)"},
    LINE: {"optim.schedule": "linear"},
    COOLED: {"optim.schedule": "wsd(decay=0.2)"},
    FLAT: CONSTANT,
    MEAN: {**CONSTANT, "optim.ema": 0.98},
    NEARLY: {"optim.schedule": "cosine(final=0.09)"},
}
HAEGELE, BERGSMA = "Hägele et al. 2024, section 4", "Bergsma et al. 2025, section 4"
MORE = "more by a hundredth, a third of what no decay at all costs there"


def sweep():
    c = tiny.get_config()
    c.optim.update(warmup=50, lr=8e-3)
    c.train.update(steps=STEPS, eval_every=EARLY, save_every=STEPS, eval_batches=20)
    return Sweep(c, ARMS, seeds=(0, 1, 2, 3, 4, 5), margin=0.01, noise=True, tune="optim.lr", tune_seeds=(1000, 1001))


def analyse(results):
    last, early = results.values(), results.values_at(EARLY)

    def less(losses, one: str, other: str) -> list[float]:
        return differences(losses[one].values(), losses[other].values())

    begun = {"cosine: before - after": differences(early[COSINE].values(), last[COSINE].values())}
    same = check_claim(
        f"{COOLED} - cosine, nats",
        "0",
        less(last, COOLED, COSINE),
        least=-0.015,
        most=0.015,
        source=HAEGELE,
        reason="half of what no decay at all costs there, 0.03 nats",
        expected=0.0,
        must_fail={"cosine: before - after": begun["cosine: before - after"]},
        must_pass={f"{NEARLY} - cosine": less(last, NEARLY, COSINE)},
    )
    return [
        same,
        *(
            check_claim(
                f"{one} - {other}, nats",
                published,
                less(last, one, other),
                least=0.01,
                source=source,
                reason=MORE,
                expected=0.03,
                must_fail={"cosine from other initial values - cosine": less(last, NOISE, COSINE)},
                must_pass=begun,
            )
            for one, other, published, source in (
                (FLAT, COSINE, "worse", HAEGELE),
                (FLAT, MEAN, "worse than its average", HAEGELE),
                (MEAN, COOLED, "worse than a cooldown", HAEGELE),
                (COSINE, LINE, "worse than a line to zero", BERGSMA),
            )
        ),
    ]
