"""A tuned model learns from what its answers are worth: ``--config=tune:grpo --config.tune.start=runs/sft``."""

from gpt_jax.configs import base, pick

# docs/tuning/policies.md says whose they are. Rates, batches and steps are for models of the quickstart's size.
METHODS = {
    "grpo": "grpo",
    "dr_grpo": "grpo(advantage='group(std=False)', mean='constant', kl=0.0)",
    "dapo": "grpo(mean='tokens', clip_high=0.28, kl=0.0, resample=2)",
    "rloo": "grpo(advantage='loo', ratio='product', kl=0.05, kl_estimator='k1')",
    "reinforce_pp": "grpo(advantage='returns', mean='tokens', kl=0.01, kl_estimator='k1')",
    "gspo": "grpo(ratio='sequence', clip_low=3e-4, clip_high=4e-4, kl=0.0)",
    "cispo": "grpo(weighted=True, mean='tokens', kl=0.0)",
    "raft": "grpo(advantage='best', mean='tokens', kl=0.0)",
    "ppo": "ppo",
}
RLHF = {"data.source": "preferences(valid=256)", "tune.reward": ((1.0, "model(run='runs/reward')"), (0.0, "kind")),
        "tune.objective": "ppo(kl=0.3)", "tune.samples": 1, "tune.updates": 2, "tune.epochs": 2, "optim.lr": 1e-4,
        "train.batch": 128, "train.steps": 60, "sample.max_new_tokens": 32, "sample.rows": 128}  # fmt: skip
SIZES = {**{method: {"tune.objective": call} for method, call in METHODS.items()}, "ppo": RLHF}


def get_config(method: str = "grpo"):
    c = base.get_config()
    for knob in c.model:
        c.model[knob] = base.any_of("start")
    c.model.dropout = 0.0
    c.data.update(source="countdown(numbers=2, largest=12)", tokenizer="start", template="start", pack="segments")
    c.tune.reward = "countdown"
    c.optim.update(lr=2e-4, warmup=10, weight_decay=0.0, schedule="linear(final=0.0)")
    c.train.update(steps=80, batch=256, eval_every=20, save_every=40, eval_batches=0)
    c.sample.update(temperature=1.0, max_new_tokens=8, rows=256, prompts=())
    c.update_from_flattened_dict(pick(SIZES, method))
    return c
