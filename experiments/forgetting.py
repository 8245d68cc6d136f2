"""Does LoRA forget less than full tuning, and learn less?

A GPT of three layers, pre-trained on the source code of the standard library, learns to follow instructions with all of its
parameters or with LoRA, each at a learning rate near its best. Afterwards it is evaluated on held-out source code again.
Biderman et al. (2024) find, with models of 7 billion parameters, that LoRA learns less of the new task and forgets less of
what was there, and that it forgets less the lower its rank.
"""

from gpt_jax.configs import small
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, finished_runs

METHODS = {
    "full": {"optim.lr": 2.5e-3},
    "LoRA of rank 16": {"tune.adapter": "lora(rank=16, alpha=32)", "optim.lr": 1.6e-2},
    "LoRA of rank 2": {"tune.adapter": "lora(rank=2, alpha=32)", "optim.lr": 1.6e-2},
}
CLAIM = "Biderman et al. 2024"
TEXT = {"data__source": "python_stdlib()", "data__pack": "concat", "train__eval_batches": 40}


def sweep():
    c = small.get_config()
    tuned = {
        "tune.start": "arm:pretrained",
        "data.source": "instructions()",
        "data.tokenizer": "start",
        "optim.schedule": "linear(final=0.0)",
        "optim.warmup": 20,
        "optim.weight_decay": 0.0,
        "train.steps": 300,
        "train.eval_every": 300,
        "train.save_every": 300,
    }
    arms = {name: {**tuned, **own} for name, own in METHODS.items()}
    return Sweep(c, {"pretrained": {}, **arms}, seeds=(0, 1, 2, 3, 4), baseline=None)


def analyse(results):
    full, large, low = METHODS
    lost = {arm: [finished_runs.loss(run, **TEXT) for run in results.done(arm).values()] for arm in METHODS}
    before = [finished_runs.loss(run, **TEXT) for run in results.done("pretrained").values()]
    learned = {arm: finished_runs.finals(results, arm, "valid/exact_match") for arm in METHODS}

    gained = differences(learned[full], learned[large])
    return [
        check_claim("loss of source code: full - before", f"rises ({CLAIM})", differences(lost[full], before), least=0),
        check_claim(
            "the same: full - rank 16", f"more than LoRA's ({CLAIM})", differences(lost[full], lost[large]), least=0
        ),
        check_claim(
            "the same: rank 16 - rank 2", f"less at lower ranks ({CLAIM})", differences(lost[large], lost[low]), least=0
        ),
        check_claim("exact match: full - rank 16", f"learns more ({CLAIM})", gained, least=0),
    ]
