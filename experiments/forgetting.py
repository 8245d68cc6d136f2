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
EARLY = 5
BIDERMAN = "Biderman et al. 2024, section 4"
TEXT = {"data__source": "python_stdlib()", "data__pack": "concat", "train__eval_batches": 40}


def sweep():
    c = small.get_config()
    c.train.eval_every = 100
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
    cut = dict.fromkeys(("train.steps", "train.eval_every", "train.save_every"), EARLY)
    arms |= {short(name): {**arms[name], **cut} for name in ("full", "LoRA of rank 16")}
    return Sweep(c, {"pretrained": {}, **arms}, seeds=(0, 1, 2, 3, 4), baseline=None)


def short(name: str) -> str:
    return f"{name}, cut short"


def analyse(results):
    full, large, low = METHODS
    arms = ("pretrained", short(full), short(large), *METHODS)
    after = {arm: [finished_runs.loss(run, **TEXT) for run in results.done(arm).values()] for arm in arms}
    lost = {arm: differences(losses, after["pretrained"]) for arm, losses in after.items()}
    pretrained = (values["pretrained"].values() for values in (results.values_at(100), results.values()))
    exact = {arm: list(values.values()) for arm, values in results.values("valid/exact_match").items()}
    early = f"after {EARLY} steps"
    return [
        check_claim(
            "loss of source code: full - before, nats a token",
            "rises",
            lost[full],
            least=0.1,
            source=BIDERMAN,
            reason="by more than a tenth of a nat; there full tuning loses a third of the source domain's score",
            expected=1.0,
            must_fail={early: lost[short(full)]},
            must_pass={"after 100 steps of pre-training - at its end": differences(*pretrained)},
        ),
        *(
            check_claim(
                f"the same: {one} - {other}",
                published,
                differences(lost[one], lost[other]),
                least=0.05,
                source=BIDERMAN,
                reason="more by half of what counts as forgetting at all",
                expected=0.2,
                must_fail={f"full - rank 16, {early}": differences(lost[short(full)], lost[short(large)])},
                must_pass={f"{one} - before": lost[one]},
            )
            for one, other, published in (
                (full, large, "full tuning forgets more"),
                (large, low, "less at lower ranks"),
            )
        ),
        check_claim(
            "share of exact answers: full - rank 16",
            "full tuning learns more",
            differences(exact[full], exact[large]),
            least=0.01,
            source=BIDERMAN,
            reason="more by a hundredth; there it is by eighteen",
            expected=0.05,
            must_fail={early: differences(exact[short(full)], exact[short(large)])},
            must_pass={f"full: after training - {early}": differences(exact[full], exact[short(full)])},
        ),
    ]
