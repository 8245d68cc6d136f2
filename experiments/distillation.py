"""Does a small model learn more in equal steps from a larger one than from the text alone?

The source code of Python's standard library, as bytes. The teacher has four layers of width 192; the student has two of
width 64 and is trained for as many steps from the text, from the teacher's distributions (Hinton et al. 2015, section 2), or
from both. Hinton et al. find that soft targets carry more information a training case than hard ones, so that the student
comes closer to the teacher.
"""

from gpt_jax.configs import quickstart
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, finished_runs

CLAIM = "lower (Hinton et al. 2015)"
STUDENTS = {
    "from the text": {},
    "from the teacher": {"tune.objective": "distill(teacher='arm:teacher', alpha=1.0)"},
    "from both": {"tune.objective": "distill(teacher='arm:teacher', alpha=0.5)"},
}


def sweep():
    c = quickstart.get_config()
    c.data.tokenizer = "bytes"
    c.train.update(steps=600, batch=16, eval_every=600, save_every=600, eval_batches=40, tensorboard=False)
    c.sample.prompts = ()
    student = {"model.layers": 2, "model.width": 64, "model.heads": 2, "train.steps": 400, "train.eval_every": 400}
    arms = {name: {**student, **own} for name, own in STUDENTS.items()}
    return Sweep(c, {"teacher": {}, **arms}, seeds=(0, 1, 2, 3, 4), baseline=None)


def analyse(results):
    text, teacher, both = (finished_runs.finals(results, arm, "valid/loss") for arm in STUDENTS)

    return [
        check_claim("loss: from the teacher - from the text, nats a byte", CLAIM, differences(teacher, text), most=0),
        check_claim("the same: from both - from the text", CLAIM, differences(both, text), most=0),
    ]
