"""Which mechanisms can look up a value that stands earlier in the text?

Multi-query associative recall (Arora et al. 2023, "Zoology", section 4 and figure 2): 8 pairs of a key and a value, then
every key once, in another order, each to be answered with its value. There attention answers at least 99% rightly at every
width, while mixers with a state of a fixed size fall behind at small ones. Two layers of width 64; the first sees one token
back, as the short convolution does that Arora et al. put before each mixer, and the second is the mechanism in question.
Rates are tuned for each. Differences are those at an equal number of examples; only full attention has learned all. Two
pairs were the control at first: there a model answers the second query by exclusion, and learns no more.
"""

import functools
from pathlib import Path

from gpt_jax.configs import base
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, finished_runs

PAIRS, VALUES, ROWS, BATCHES = 8, 32, 64, 8
FULL, LONGER, NEAR = "full", "full, 600 steps", "sliding(window=8)"
STATES = ("linear", "retention")
ARORA = "Arora et al. 2023, section 4 and figure 2"
BEHIND = "behind attention by more than the hundredth that it may miss itself"


def sweep():
    c = base.get_config()
    c.model.update(layers=2, width=64, heads=2, context=32, position="rope")
    c.model.init = "normal(std=0.09)"  # near 1/sqrt(width); GPT-2's 0.02 begins slowly at this width
    c.data.update(source=f"recall(pairs={PAIRS}, keys=32, values={VALUES}, once=True)", tokenizer="none")
    c.optim.update(lr=4e-3, warmup=50)
    c.train.update(steps=300, batch=ROWS, eval_every=300, save_every=300, eval_batches=BATCHES, tensorboard=False)
    c.train.keep_best = False
    c.sample.prompts = ()
    arms = {name: {"model.attention": ["sliding(window=2)", name]} for name in (FULL, *STATES, NEAR)}
    arms[LONGER] = {**arms[FULL], "train.steps": 600, "train.eval_every": 600, "train.save_every": 600}
    return Sweep(c, arms, seeds=(0, 1, 2, 3, 4), baseline=None, tune="optim.lr", tune_seeds=(1000,))


def analyse(results):
    right = {arm: [share(run) for run in results.done(arm).values()] for arm in results.arms}
    learned = check_claim(
        "full attention: share of queries answered rightly",
        "0.99 or more",
        right[FULL],
        scale="logit",
        least=0.99,
        source=ARORA,
        reason="as published",
        expected=0.998,
        must_fail={"a window of 8 tokens, which most pairs are out of": right[NEAR]},
        must_pass={LONGER: right[LONGER]},
    )
    behind = [
        check_claim(
            f"share answered rightly: full - {arm} attention",
            "more",
            differences(right[FULL], right[arm]),
            least=0.01,
            source=ARORA,
            reason=BEHIND,
            expected=0.2,
            must_fail={f"{LONGER} - full": differences(right[LONGER], right[FULL])},
            must_pass={"full - a window of 8 tokens": differences(right[FULL], right[NEAR])},
        )
        for arm in STATES
    ]
    return [learned, *behind]


@functools.cache
def share(directory: Path) -> float:
    """Of the queries, with half a query more on each side, so that none is 0 or 1."""
    queries = PAIRS * ROWS * BATCHES
    return (finished_runs.accuracy(directory) * queries + 0.5) / (queries + 1)
