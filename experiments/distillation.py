"""Does a small model learn more in equal steps from a larger one than from the text alone?

The source code of Python's standard library, as bytes. The teacher has three layers of width 96, and is trained for 500
steps; the student has two of width 64, and 300 steps of the text, of the teacher's distributions (Hinton et al. 2015,
section 2), or of both. Hinton et al. (table 5) find that soft targets carry more information a training case than hard ones,
so that the student comes closer to the teacher. Rates are tuned for each. No student has converged: these are gains at an
equal number of bytes.
"""

from gpt_jax.configs import tiny
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import NOISE, Sweep

STEPS = 300
HINTON = "Hinton et al. 2015, section 2 and table 5"
TEXT, TEACHER = "from the text", "teacher"
STUDENTS = {
    TEXT: {},
    "from the teacher": {"tune.objective": "distill(teacher='arm:teacher', alpha=1.0)"},
    "from both": {"tune.objective": "distill(teacher='arm:teacher', alpha=0.5)"},
}


def sweep():
    c = tiny.get_config()
    c.model.context = 128
    c.data.tokenizer = "bytes"
    c.optim.update(lr=8e-3, warmup=50)
    c.train.update(steps=STEPS, eval_every=STEPS, save_every=STEPS, eval_batches=20)
    larger = {
        "model.layers": 3,
        "model.width": 96,
        "model.heads": 3,
        "train.steps": 500,
        "train.save_every": 500,
        "train.eval_every": 500,
    }
    arms = {TEACHER: larger, **STUDENTS}
    return Sweep(c, arms, seeds=(0, 1, 2, 3, 4), baseline=None, tune="optim.lr", tune_seeds=(1000,), noise=TEXT)


def analyse(results):
    last = results.values()

    def less(arm: str) -> list[float]:
        return differences(last[arm].values(), last[TEXT].values())

    return [
        check_claim(
            f"loss: {arm} - {TEXT}, nats a byte",
            "lower",
            less(arm),
            most=-0.005,
            source=HINTON,
            reason="lower by more than 0.005 nats, at an equal number of training cases",
            expected=-0.02,
            must_fail={f"{TEXT}, from other initial values - {TEXT}": less(NOISE)},
            must_pass={"the teacher itself": less(TEACHER)},
        )
        for arm in ("from the teacher", "from both")
    ]
