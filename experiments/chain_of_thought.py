"""Does a model solve more where it may write down its steps?

Chains of five numbers of one digit, added and subtracted from the left; a character a token, two layers of width 64. The
answer is learned alone, or after the chain that is left after each step. Nye et al. (2021, "Show your work: scratchpads for
intermediate computation with language models", section 3) find that models that write down what comes between solve more of
such tasks. A written chain counts only if every step of it is right, so that it has more to get right.
"""

from gpt_jax.configs import base
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep

EARLY, STEPS, VALID = 50, 600, 500
ALONE, WRITTEN = "answer alone", "with steps"
NYE = "Nye et al. 2021, section 3"


def sweep():
    c = base.get_config()
    c.model.update(layers=2, width=64, heads=4, context=48, position="learned", bias=False)
    c.model.init = "normal(std=0.09)"  # near 1/sqrt(width); GPT-2's 0.02 begins slowly at this width
    c.data.update(tokenizer="bytes", pack="padded", valid_fraction=0.05)
    c.optim.update(lr=4e-3, warmup=50)
    c.train.update(batch=64, eval_batches=0, tensorboard=False)
    c.train.keep_best = False
    c.sample.prompts = ()
    task = f"arithmetic(operations='+-', digits=1, terms=5, count=100000, valid={VALID}"
    arms = {
        name(written, steps): {
            "data.source": f"{task}, steps={written == WRITTEN})",
            "train.steps": steps,
            "train.eval_every": steps,
            "train.save_every": steps,
        }
        for written in (ALONE, WRITTEN)
        for steps in (STEPS, EARLY)
    }
    knobs = {"metric": "valid/exact_match", "tune": "optim.lr", "tune_seeds": (1000, 1001, 1002)}
    return Sweep(c, arms, seeds=(0, 1, 2, 3, 4), baseline=None, **knobs)


def name(written: str, steps: int) -> str:
    return written if steps == STEPS else f"{written}, {steps} steps"


def analyse(results):
    values = results.values()

    def more(steps: int) -> list[float]:
        return differences(values[name(WRITTEN, steps)].values(), values[name(ALONE, steps)].values())

    learned = differences(values[WRITTEN].values(), values[name(WRITTEN, EARLY)].values())

    return [
        check_claim(
            "share that is right to the letter: with steps - answer alone",
            "more",
            more(STEPS),
            least=0.02,
            source=NYE,
            reason="more at an equal number of examples, by two hundredths of the answers",
            expected=0.2,
            must_fail={f"after {EARLY} steps": more(EARLY)},
            must_pass={f"with steps: after training - after {EARLY} steps": learned},
        )
    ]
