"""Does DPO lower the likelihood of what is preferred?

A GPT of three layers learns to describe things in kind words, and then, by DPO, to prefer a kind word to an unkind one. In
near pairs both answers differ in that word alone; in unlike pairs the sentence and the other words differ too. Razin et al.
(2024, "Unintentional Unalignment") find that the preferred answer gets less likely as well (likelihood displacement), and
more so the more alike the hidden states of both answers are. Log-probabilities are those of whole answers, in nats, after
DPO less before.
"""

from gpt_jax.configs import small
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, finished_runs

STYLES = ("near", "unlike")
BETA = 0.1
EARLY = 5
RAZIN = "Razin et al. 2024, sections 3 and 5"


def sweep():
    c = small.get_config()
    shared = {
        "data.tokenizer": "start",
        "optim.schedule": "linear(final=0.0)",
        "optim.warmup": 10,
        "optim.weight_decay": 0.0,
        "train.eval_batches": 0,
    }
    arms = {"pretrained": {}}
    for style in STYLES:
        source = {**shared, "data.source": f"preferences(style='{style}')"}
        steps = {"train.steps": 100, "train.eval_every": 100, "train.save_every": 100}
        arms[f"tuned, {style}"] = {**source, **steps, "tune.start": "arm:pretrained", "optim.lr": 1e-3}
        arms[style] = {
            **source,
            **steps,
            "tune.start": f"arm:tuned, {style}",
            "tune.objective": f"dpo(beta={BETA})",
            "optim.lr": 1e-4,
        }
        cut = dict.fromkeys(("train.steps", "train.eval_every", "train.save_every"), EARLY)
        arms[short(style)] = {**arms[style], **cut}
    return Sweep(c, arms, seeds=(0, 1, 2, 3, 4), baseline=None, metric="valid/accuracy")


def short(style: str) -> str:
    return f"{style}, cut short"


def analyse(results):
    moved = {
        (arm, side): [reward / BETA for reward in finished_runs.finals(results, arm, f"valid/{side}_reward")]
        for style in STYLES
        for arm in (style, short(style))
        for side in ("chosen", "rejected")
    }
    near, unlike = STYLES
    early = f"after {EARLY} steps"
    fell = {"the rejected answer, unlike pairs": moved[unlike, "rejected"]}
    falls = {"most": -0.5, "source": RAZIN, "expected": -2.0}
    falls["reason"] = "by half a nat: the answer gets less likely by two fifths"
    return [
        check_claim(
            "log-probability of the chosen answer, near pairs, nats",
            "falls",
            moved[near, "chosen"],
            must_fail={early: moved[short(near), "chosen"]},
            must_pass=fell,
            **falls,
        ),
        check_claim(
            "of the rejected answer, near pairs",
            "falls",
            moved[near, "rejected"],
            must_fail={early: moved[short(near), "rejected"]},
            must_pass=fell,
            **falls,
        ),
        check_claim(
            "of the chosen answer: unlike pairs - near pairs",
            "falls less",
            differences(moved[unlike, "chosen"], moved[near, "chosen"]),
            least=0.5,
            source=RAZIN,
            reason="by half a nat, as above",
            expected=2.0,
            must_fail={early: differences(moved[short(unlike), "chosen"], moved[short(near), "chosen"])},
            must_pass={"near pairs: chosen - rejected": differences(moved[near, "chosen"], moved[near, "rejected"])},
        ),
    ]
