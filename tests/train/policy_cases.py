"""Random batches of completions with logits of their own, and policy objectives over them beside those of other packages."""

import functools
import types
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from gpt_jax import registry
from gpt_jax.train import token_scores
from gpt_jax.train.objectives import Objective
from tests.train import oracles

CASES, ROWS, T, V = 100, 4, 7, 5  # the last row of each case is left out
LIMIT = 9.0  # tokens that a completion may have
TEMPERATURE = 0.7
CLOSE = {"rtol": 1e-6, "atol": 1e-9}

VERL, TRL, NEWER, OPENRLHF = "verl==0.9.1", "trl==0.11.4", "trl==1.16.0", "openrlhf==0.11.2"
ALGORITHMS, TENSORS = "verl/trainer/ppo/core_algos.py", "verl/utils/torch_functional.py"
TRAINER, CORE = "trl/trainer/ppo_trainer.py", "trl/core.py"
MODELS = "openrlhf-0.11.2.data/purelib/openrlhf/models/"
# (package, file) -> functions and the digests of their sources; what one needs stands before it.
SOURCES = {
    (VERL, TENSORS): {
        "clip_by_value": "d008947f9a99",
        "masked_sum": "7529be2132ba",
        "masked_mean": "d9319a05c6d9",
        "masked_var": "9582c6ca30c8",
        "masked_whiten": "58f9e9047f04",
    },
    (VERL, ALGORITHMS): {
        "agg_loss": "baa1eabb337d",
        "compute_gae_advantage_return": "d3c50341437a",
        "compute_grpo_outcome_advantage": "a75e649242ad",
        "compute_policy_loss": "c641b3de7f32",
        "compute_reinforce_plus_plus_baseline_outcome_advantage": "43d6af409f17",
        "compute_reinforce_plus_plus_outcome_advantage": "ef7e89da3d07",
        "compute_rloo_outcome_advantage": "30303ba2c3ff",
        "compute_value_loss": "7bfde458f0c4",
        "kl_penalty_forward": "89683b733244",
        "kl_penalty": "f5a9e2e6d607",
    },
    (TRL, CORE): {
        "clip_by_value": "58a1f1b35d41",
        "entropy_from_logits": "f6df2af926d1",
        "flatten_dict": "02d72b042fc4",
        "masked_mean": "64d9bc1921af",
        "masked_var": "60ba96d46a99",
        "masked_whiten": "8805e133b1d1",
    },
    (TRL, TRAINER): {
        "PPOTrainer._kl_penalty": "6b068e765e35",
        "PPOTrainer.compute_advantages": "c3df9bdeb370",
        "PPOTrainer.compute_rewards": "78dffc21c5fb",
        "PPOTrainer.loss": "0f49bdaa7dc8",
    },
    (TRL, "trl/trainer/utils.py"): {"AdaptiveKLController": "ed302178d3af"},
    (NEWER, "trl/trainer/grpo_trainer.py"): {"GRPOTrainer._compute_loss": "84d6cf614bec"},
    (OPENRLHF, MODELS + "utils.py"): {"masked_mean": "52a78503a33a", "compute_approx_kl": "9ceed3b7ed1f"},
    (OPENRLHF, MODELS + "loss.py"): {
        "aggregate_loss": "540362359745",
        "PolicyLoss": "dbd9ec869829",
        "ValueLoss": "7587dd7685da",
    },
}


@functools.cache
def package(pin: str) -> dict[str, Any]:
    """The functions of a package, those of a class by their own names."""
    import torch

    module = types.SimpleNamespace()  # of functions that others call by its name
    names = {"torch": torch, "nn": torch.nn, "np": np, "verl_F": module, "Mapping": Mapping, "defaultdict": defaultdict}
    names |= {
        name: lambda found_B: found_B[~found_B.isnan()].sum() for name in ("nanmin", "nanmax")
    }  # of reports alone
    for (of, file), functions in SOURCES.items():
        for name, digest in functions.items() if of == pin else ():
            own = name.rpartition(".")[2]
            names[own] = oracles.taken(pin, file, name, digest, **names)
            setattr(module, own, names[own])
    return names


@dataclass
class Given:
    """A forward pass whose logits, and whose states, the batch has; the critic's value is the state."""

    coupled: dict = field(default_factory=dict)
    heads: dict = field(default_factory=lambda: {"w": jnp.ones((1, 1)), "bias": jnp.zeros(1)})
    byte_lengths_V: Any = None
    temperature: float = TEMPERATURE

    def states(self, batch):
        return batch["states"]

    def policy(self, batch, states):
        return token_scores.policy(batch["logits"], batch["targets"], self.temperature)


def built(call: str) -> Objective:
    return registry.build("train.objectives", call)


def value(objective: Objective, batch: dict, forward: Given | None = None) -> tuple[jax.Array, dict]:
    """The mean over what counts, and means of all that is reported."""
    forward = forward or Given()
    forward.coupled = objective.coupled(forward, batch)
    sums, count = objective.sums(forward, batch), jnp.maximum(objective.count(batch), 1)
    return sums["objective"] / count, {name: total / count for name, total in sums.items()}


@functools.cache
def ours(call: str) -> Callable:
    """batch -> ((value, means), gradients by logits and states)."""
    of = lambda variables, batch: value(built(call), {**batch, **variables})
    compiled = jax.jit(jax.value_and_grad(of, has_aux=True))

    def found(batch):
        variables = {name: jnp.asarray(batch[name]) for name in ("logits", "states")}
        return compiled(variables, {name: a for name, a in batch.items() if name not in variables})

    return found


def case(seed: int, wide: float = 1.0, better: float = 1.0) -> dict[str, np.ndarray]:
    """Completions with holes, of a policy that has moved not at all, a little, or far from the one that wrote them.

    Args:
      wide: how far the reference is, in nats.
      better: how large advantages are.
    """
    draw = np.random.default_rng(seed)
    length_B1 = draw.integers(1, T + 1, size=(ROWS, 1))
    weights_BT = ((np.arange(T) < length_B1) & (draw.random((ROWS, T)) < 0.8)).astype(np.float64)
    weights_BT[np.arange(ROWS), length_B1[:, 0] - 1] = 1
    weights_BT[-1] = 0
    logits_BTV = draw.normal(size=(ROWS, T, V)) * draw.choice([0.1, 1, 3])
    targets_BT = draw.integers(V, size=(ROWS, T))
    logs_BTV = scipy.special.log_softmax(logits_BTV / TEMPERATURE, -1)
    log_prob_BT = np.take_along_axis(logs_BTV, targets_BT[..., None], -1)[..., 0]
    value_BT = draw.normal(size=(ROWS, T))
    return {
        "weights": weights_BT,
        "targets": targets_BT,
        "logits": logits_BTV,
        "old": log_prob_BT + draw.normal(size=(ROWS, T)) * draw.choice([0, 0.05, 0.3, 2]),
        "reference": log_prob_BT + draw.normal(size=(ROWS, T)) * draw.choice([0.1, 1]) * wide,
        "advantage": better * draw.normal(size=(ROWS, T)) * draw.integers(2, size=(ROWS, 1)),
        "limit": np.full(ROWS, LIMIT),
        "states": (value_BT + draw.normal(size=(ROWS, T)) * draw.choice([0.1, 1]))[..., None],
        "value": value_BT,
        "returns": draw.normal(size=(ROWS, T)),
    }


def agree(call: str, oracle: Callable, cases: int = CASES, **how: Any) -> None:
    """``oracle(batch, log_prob, entropy, value)``, of tensors, of the whole batch, is our value and has our gradients; what
    it gives beside it, by name, is what we report."""
    import torch

    with jax.enable_x64(True):
        for seed in range(cases):
            batch = case(seed, **how)
            (found, means), gradients = ours(call)(batch)
            variables = {name: torch.tensor(batch[name], requires_grad=True) for name in ("logits", "states")}
            logs_BTV = (variables["logits"] / TEMPERATURE).log_softmax(-1)
            given = {name: torch.tensor(a) for name, a in batch.items()}
            log_prob_BT = logs_BTV.gather(-1, given["targets"][..., None])[..., 0]
            entropy_BT = -(logs_BTV.exp() * logs_BTV).sum(-1)
            wanted, reports = oracle(given, log_prob_BT, entropy_BT, variables["states"][..., 0])
            named = {"err_msg": f"case {seed}", **CLOSE}
            np.testing.assert_allclose(float(found), wanted.item(), **named)
            for name, report in reports.items():
                np.testing.assert_allclose(float(means[name]), float(report.detach()), **named)
            theirs = torch.autograd.grad(wanted, list(variables.values()), allow_unused=True, materialize_grads=True)
            for (name, mine), their in zip(gradients.items(), theirs, strict=True):
                np.testing.assert_allclose(mine, their.numpy(), **named)
                assert not mine[-1].any(), name
