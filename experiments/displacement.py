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
CLAIM = "Razin et al. 2024"


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
    return Sweep(c, arms, seeds=(0, 1, 2, 3, 4), baseline=None, metric="valid/accuracy")


def analyse(results):
    moved = {
        style: {
            side: [reward / BETA for reward in finished_runs.finals(results, style, f"valid/{side}_reward")]
            for side in ("chosen", "rejected")
        }
        for style in STYLES
    }
    more = differences(moved["unlike"]["chosen"], moved["near"]["chosen"])
    return [
        check_claim(
            "log-probability of the chosen answer, near pairs", f"falls ({CLAIM})", moved["near"]["chosen"], most=0
        ),
        check_claim("of the rejected answer, near pairs", f"falls ({CLAIM})", moved["near"]["rejected"], most=0),
        check_claim("of the chosen answer: unlike pairs - near pairs", f"falls less ({CLAIM})", more, least=0),
    ]
