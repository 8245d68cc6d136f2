"""Do wrong answers get longer where each answer counts the same, whatever its length?

A GPT of three layers has learned the numbers game of Countdown a little, with three numbers, and learns it better from
rewards of right answers: by GRPO, which divides what an answer counts by its length, or by Dr. GRPO, in which a token counts
the same. Liu et al. (2025, "Understanding R1-Zero-like training", section 3 and figure 5) find that the division makes long
wrong answers cheap, so that wrong answers grow, and that without it they do not, at the same accuracy.
"""

from gpt_jax.configs import rl, small
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep

TASK = "countdown(numbers=3, largest=12)"
LONGEST, METHODS = 24, ("grpo", "dr_grpo")
LIU = "Liu et al. 2025, section 3 and figure 5"


def sweep():
    arms = {"pretrained": {}, "before": small.tuned(100, {"data.source": TASK, "optim.lr": 4e-3})}
    own = {"tune.start": "arm:before", "data.source": TASK, "tune.reward": "countdown", "optim.lr": 5e-4}
    own |= {"train.batch": 256, "sample.rows": 256, "sample.max_new_tokens": LONGEST}
    for method in METHODS:
        # Neither has a divergence, so that what differs is what an answer counts.
        call = rl.METHODS[method] if method != "grpo" else "grpo(kl=0.0)"
        arms[method] = small.rewarded(100, {**own, "tune.objective": call})
    return Sweep(small.get_config(), arms, seeds=(0, 1, 2, 3, 4), baseline=None, metric="valid/reward")


def analyse(results):
    metrics = ("valid/length_worse", "valid/reward")
    length, solved = ([list(results.values(one)[method].values()) for method in METHODS] for one in metrics)
    first_length, first_solved = (
        [list(results.values_at(0, one)[method].values()) for method in METHODS] for one in metrics
    )
    longest = [LONGEST - tokens for tokens in length[1]]
    return [
        check_claim(
            "tokens of wrong answers: GRPO - Dr. GRPO",
            "more",
            differences(*length),
            least=0.5,
            source=LIU,
            reason="half a token of about ten, as little as the published curves part at the beginning",
            expected=2.0,
            must_fail={"at the first evaluation": differences(*first_length)},
            must_pass={"the longest that can be written - Dr. GRPO": longest},
        ),
        check_claim(
            "share of puzzles solved: GRPO - Dr. GRPO",
            "as many",
            differences(*solved),
            least=-0.05,
            most=0.05,
            source=LIU,
            reason="a twentieth either way, as the published accuracies",
            expected=0.0,
            must_fail={"GRPO: at the end - at first": differences(solved[0], first_solved[0])},
            must_pass={"at the first evaluation": differences(*first_solved)},
        ),
    ]
