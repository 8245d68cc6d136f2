"""Which settings a policy can learn with."""

from typing import Any

import jax

from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.sample.knobs import KNOBS
from gpt_jax.train.objectives.policy import Policy

# Settings of sampling that a policy can learn with: those that leave the distribution as it is, or that it divides by.
SEARCHES = {"num_beams": 1, "penalty_alpha": 0.0, "best_of": 1, "exact_nodes": 0, "num_return_sequences": 1}
ELSE = {"processors": (), "guidance_scale": 1.0, "stop_strings": (), "beyond_context": "refuse"}
ELSE |= {"draft": "", "draft_layers": 0, "prompt_lookup_num_tokens": 0, "cache": "model", "weights": "model"}
MOST_CHANGE = 0.2  # of kl after a rollout: of the relative error of the divergence (Ziegler et al. 2019, section 2.2)


def check(config: Config, policy: Policy) -> None:
    """
    Raises:
      UserError: what is drawn would not be what is learned from, or numbers of rows or steps do not fit each other.
    """
    tune, train = config.tune, config.train
    _check_sampling(config)
    if jax.process_count() > 1:
        raise UserError(
            "a policy that learns from what it writes is trained by one process",
            where="config.tune.objective",
            fix="start one process with all devices of a machine",
        )
    if tune.samples < policy.advantage.least:
        raise UserError(
            f"{config.tune.objective} compares completions of a prompt, and tune.samples = {tune.samples}",
            where="config.tune.samples",
            allowed=f"{policy.advantage.least} or more",
        )
    if policy.target and MOST_CHANGE * rows(config) >= policy.horizon:
        raise UserError(
            f"a rollout of {rows(config)} completions could make kl 0 or less, which follows its target over horizon ="
            f" {policy.horizon} completions",
            where="config.tune.objective",
            allowed=f"horizon above {MOST_CHANGE * rows(config):g}",
        )
    if tune.updates % tune.epochs:
        raise UserError(
            f"tune.updates = {tune.updates} steps do not divide into tune.epochs = {tune.epochs} passes",
            where="config.tune.updates, config.tune.epochs",
            allowed="a multiple of tune.epochs",
        )
    if rows(config) % tune.samples:
        raise UserError(
            f"a rollout of {rows(config)} completions does not divide into prompts with tune.samples = {tune.samples}",
            where="config.train.batch, config.tune.samples",
            allowed=f"train.batch a multiple of {tune.samples}",
        )
    for knob in ("steps", "eval_every", "save_every"):
        if (value := getattr(train, knob)) % tune.updates:
            raise UserError(
                f"train.{knob} = {value} falls between two rollouts, which tune.updates = {tune.updates} steps learn from",
                where=f"config.train.{knob}",
                allowed=f"a multiple of {tune.updates}",
            )


def rows(config: Config) -> int:
    """Completions of a rollout."""
    return config.train.batch * config.tune.updates // config.tune.epochs


def _check_sampling(config: Config) -> None:
    sample = config.sample
    if not sample.temperature:
        raise UserError(
            "a policy that always takes the likeliest token has nothing to learn from",
            where="config.sample.temperature",
            allowed="above 0; 1 is usual",
        )
    if not sample.max_new_tokens:
        raise UserError("completions have no tokens", where="config.sample.max_new_tokens", allowed="1 or more")
    off: dict[str, Any] = {name: knob.off for name, knob in KNOBS.items() if name != "temperature"}
    for name, value in {**off, **SEARCHES, **ELSE}.items():
        if (given := getattr(sample, name)) != value:
            raise UserError(
                f"sample.{name} = {given!r} draws from another distribution than the one whose gradient is taken",
                where=f"config.sample.{name}",
                allowed=f"{value!r} in rollouts, which sample.temperature alone may shape",
                fix=f"--config.sample.{name}={value!r}; when the run is sampled from, it may be set",
            )
