"""How often can a text be read again before it stops to help?

A byte a token, two layers of width 64, 600 steps of 16 windows of 128 bytes of the source code of Python's standard library:
all of them read once, or a part that is read about 4, 16 or 60 times. Muennighoff et al. (2023, "Scaling data-constrained
language models", figure 5 and section 6) find that up to four epochs are worth about as much as new text, and that the worth
of repetition decays to nothing from there, so that 60 epochs end far behind. All are evaluated on the same held-out files.
"""

import functools
from pathlib import Path

from gpt_jax.configs import tiny
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import NOISE, Sweep, finished_runs

STEPS, EARLY, HELD = 600, 20, 0.1
ONCE, FOUR, SIXTY = "once", "4 times", "60 times"
PARTS = {ONCE: HELD, FOUR: 0.968, SIXTY: 0.998}  # how much of the text is held out
MARGIN = 0.04  # nats
MUENNIGHOFF = "Muennighoff et al. 2023, figure 5 and section 6"


def sweep():
    c = tiny.get_config()
    c.model.init = "gpt2"
    c.model.context = 128
    c.data.tokenizer = "bytes"
    c.optim.update(lr=4e-3, warmup=30)
    c.train.update(steps=STEPS, eval_every=EARLY, save_every=STEPS, eval_batches=4)
    arms = {name: {"data.valid_fraction": held} for name, held in PARTS.items()}
    return Sweep(c, arms, seeds=(0, 1, 2, 3, 4), baseline=None, noise=ONCE)


def analyse(results):
    held = {arm: [loss(run) for run in results.done(arm).values()] for arm in results.arms}
    four, sixty, again = (differences(held[arm], held[ONCE]) for arm in (FOUR, SIXTY, NOISE))
    begun = differences(results.values_at(EARLY)[ONCE].values(), results.values()[ONCE].values())
    return [
        check_claim(
            "read 4 times - read once, nats a byte",
            "hardly more",
            four,
            least=-MARGIN,
            most=MARGIN,
            source=MUENNIGHOFF,
            reason="there four epochs end half a percent higher; two percent of the loss are allowed either way",
            expected=0.01,
            must_fail={"read 60 times": sixty},
            must_pass={"once, from other initial values - once": again},
        ),
        check_claim(
            "read 60 times - read once, nats a byte",
            "far more",
            sixty,
            least=MARGIN,
            source=MUENNIGHOFF,
            reason="beyond what four times may differ",
            expected=0.2,
            must_fail={"once, from other initial values - once": again},
            must_pass={f"once, {EARLY} steps - all": begun},
        ),
    ]


@functools.cache
def loss(directory: Path) -> float:
    """Nats a byte of the files that no arm has read."""
    return finished_runs.loss(directory, data__valid_fraction=HELD, train__eval_batches=40)
