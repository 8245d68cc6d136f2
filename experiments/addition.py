"""Does a model learn to add more easily where it may write the last digit first?

Sums of two numbers of up to three digits, a character a token, two layers of width 64. The last digit of a sum can be
computed from two digits, the first needs all of them. Lee et al. (2023, "Teaching arithmetic to small transformers",
section 4) find that small models learn to add from fewer examples where sums are written in reverse, and then without
errors, while written plainly they need more and keep some. An answer counts if every digit is right.
"""

from gpt_jax.configs import base
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep

EARLY, STEPS, VALID = 100, 1500, 500
LEE = "Lee et al. 2023, section 4"
METRIC = "valid/exact_match"


def sweep():
    c = base.get_config()
    c.model.update(layers=2, width=64, heads=4, context=16, position="learned", bias=False)
    # Chosen, with the number of steps, after a first result of 0.07 for reversed sums.
    c.model.init = "normal(std=0.09)"  # near 1/sqrt(width); GPT-2's 0.02 begins slowly at this width
    c.data.update(tokenizer="bytes", pack="padded", valid_fraction=0.05)
    c.optim.update(lr=4e-3, warmup=50)
    c.train.update(steps=STEPS, batch=128, eval_every=EARLY, save_every=STEPS, eval_batches=0, tensorboard=False)
    c.train.keep_best = False
    c.sample.prompts = ()
    arms = {
        name: {"data.source": f"arithmetic(operations='+', digits=3, count=100000, valid={VALID}, reverse={reverse})"}
        for name, reverse in (("plain", False), ("reversed", True))
    }
    return Sweep(c, arms, seeds=(0, 1, 2, 3, 4), baseline=None, metric=METRIC, tune="optim.lr", tune_seeds=(1000,))


def analyse(results):
    last, early = ({arm: shares(row) for arm, row in table.items()} for table in (results.values(), at_first(results)))
    return [
        check_claim(
            "share of sums that are right, reversed",
            "1",
            last["reversed"],
            scale="logit",
            least=0.95,
            source=LEE,
            reason="their curve ends without errors; one in twenty is allowed to a model a hundred times smaller",
            expected=0.995,
            must_fail={f"after {EARLY} steps": early["reversed"]},
            must_pass={"answers that are all right": shares(dict.fromkeys(results.seeds, 1.0))},
        ),
        check_claim(
            "the same: reversed - plain",
            "more",
            differences(last["reversed"], last["plain"]),
            least=0.02,
            source=LEE,
            reason="more at an equal number of examples, by two hundredths of the answers",
            expected=0.2,
            must_fail={f"after {EARLY} steps": differences(early["reversed"], early["plain"])},
            must_pass={"reversed: after training - before": differences(last["reversed"], early["reversed"])},
        ),
    ]


def at_first(results):
    return results.values_at(EARLY)


def shares(row) -> list[float]:
    """Shares of ``VALID`` answers, with half an answer more on each side, so that none is 0 or 1."""
    return [(value * VALID + 0.5) / (VALID + 1) for value in row.values()]
