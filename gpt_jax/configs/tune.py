"""Tuning a model that there is: ``--config=tune:dpo --config.tune.start=runs/sft``.

Knobs with the value "start" are as in that model. Learning rates, batches and steps are for models of the quickstart's size.
"""

from gpt_jax.configs import base, pick, rl

PAIRS = {"data.source": "preferences()", "data.template": "start", "optim.lr": 2e-4, "model.dropout": 0.0}
STUDENT = {"data.tokenizer": "run(path='runs/q')", "data.pack": "concat", "train.batch": 12}  # begins from scratch
STUDENT |= {"model.layers": 2, "model.width": 96, "model.heads": 3, "model.context": 128, "model.bias": False}
ANSWERS = {"data.source": "instructions(count=60000, families=6)", "data.template": "chatml", "train.batch": 16}
ANSWERS |= {"train.steps": 3000, "train.eval_every": 200, "train.save_every": 400, "train.eval_batches": 0}
PREFERENCES = {"reward": "reward", "dpo": "dpo(beta=0.1)", "ipo": "ipo(tau=0.1)", "kto": "kto(beta=0.1)"}
PREFERENCES |= {"orpo": "orpo(weight=0.1)", "simpo": "simpo(beta=2.0, gamma=1.0)"}
TUNED = {
    "sft": {**ANSWERS, "optim.lr": 4e-3, "optim.weight_decay": 0.1, "model.dropout": 0.1},
    "lora": {**ANSWERS, "tune.adapter": "lora(rank=8)", "optim.lr": 5e-3},
    "classify": {"data.source": "which_package()", "tune.objective": "classify(classes=8)", "optim.lr": 5e-4},
    **{method: {**PAIRS, "tune.objective": call} for method, call in PREFERENCES.items()},
}
TUNED["kto"]["data.source"] = "preferences(labelled=True)"
SIZES = {**TUNED, "distill": {**STUDENT, "tune.objective": "distill(teacher='runs/q')"}, **rl.SIZES}


def get_config(method: str = "sft"):
    if method in rl.SIZES:
        return rl.get_config(method)
    c = base.get_config()
    for knob in c.model if method in TUNED else ():
        c.model[knob] = base.any_of("start")
    c.data.update(tokenizer="start", pack="segments")
    c.optim.update(lr=2e-3, warmup=50, weight_decay=0.0, schedule="linear(final=0.0)")
    c.train.update(steps=500, batch=24, eval_every=100, save_every=100)
    c.update_from_flattened_dict(pick(SIZES, method))
    return c
