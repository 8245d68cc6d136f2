"""Does a small model learn more in equal steps from a larger one than from the text alone?

The source code of Python's standard library, as bytes. The teacher has four layers of width 128; the student has two of
width 64 and is trained for as many steps from the text, from the teacher's distributions (Hinton et al. 2015, section 2), or
from both. Hinton et al. (table 5) find that soft targets carry more information a training case than hard ones, so that the
student comes closer to the teacher. Rates are tuned for each student. No student has converged: these are gains at an equal
number of bytes.
"""

from gpt_jax.configs import tiny
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep

EARLY, STEPS = 5, 300
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
    c.train.update(steps=STEPS, eval_every=EARLY, save_every=STEPS, eval_batches=10)
    larger = {"model.layers": 4, "model.width": 128, "model.heads": 4, "train.steps": 600, "train.save_every": 600}
    arms = {TEACHER: {**larger, "train.eval_every": 100}, **STUDENTS}
    return Sweep(c, arms, seeds=(0, 1, 2, 3, 4), baseline=None, tune="optim.lr", tune_seeds=(1000,))


def analyse(results):
    last, early = results.values(), results.values_at(EARLY)

    def less(losses, arm: str) -> list[float]:
        return differences(losses[arm].values(), losses[TEXT].values())

    return [
        check_claim(
            f"loss: {arm} - {TEXT}, nats a byte",
            "lower",
            less(last, arm),
            most=0.0,
            source=HINTON,
            reason="lower by any amount, at an equal number of training cases",
            expected=-0.02,
            must_fail={f"after {EARLY} steps": less(early, arm)},
            must_pass={"the teacher itself": less(last, TEACHER)},
        )
        for arm in ("from the teacher", "from both")
    ]
