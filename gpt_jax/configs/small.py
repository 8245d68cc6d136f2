"""A third of the quickstart: what studies of tuning start from, a minute on one CPU core."""

from collections.abc import Mapping
from typing import Any

from gpt_jax.configs import quickstart


def get_config():
    c = quickstart.get_config()
    c.model.update(layers=3, width=128, heads=4)
    c.train.update(steps=400, batch=16, eval_every=400, save_every=400, tensorboard=False)
    c.sample.prompts = ()
    return c


def tuned(steps: int, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Knobs of an arm that goes on for so many steps where the arm "pretrained" ended, or another one that is named."""
    own: dict[str, Any] = {
        "tune.start": "arm:pretrained",
        "data.tokenizer": "start",
        "optim.schedule": "linear(final=0.0)",
    }
    own |= {"optim.warmup": 10, "optim.weight_decay": 0.0, "train.eval_batches": 0}
    return {**own, **dict.fromkeys(("train.steps", "train.eval_every", "train.save_every"), steps), **knobs}


def rewarded(steps: int, knobs: Mapping[str, Any], evaluations: int = 1) -> dict[str, Any]:
    """Knobs of an arm that learns from rewards, evaluated so often, and before it starts."""
    own = {"sample.max_new_tokens": 32, "sample.rows": 128, "train.batch": 64, "train.eval_every": steps // evaluations}
    return tuned(steps, {"sample.temperature": 1.0, **own, **knobs})
