"""Objectives with a head or a teacher: value and gradient of published code in float64, and what holds of them exactly."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.train import token_scores
from gpt_jax.train.objectives import Objective
from gpt_jax.train.objectives.distill import divergence
from gpt_jax.train.objectives.reward import ends
from tests.train import oracles

CASES, ROWS, OPTIONS, T, D, V = 100, 4, 3, 6, 5, 7  # the last row of each case is filling
CLOSE = {"rtol": 1e-6, "atol": 1e-9}
PAIRWISE, GKD = "c4147d754001", "db60980923a0"  # digests of the sources


@dataclasses.dataclass
class Given:
    """A forward pass whose states, and whose teacher's logits, the batch has."""

    heads: dict
    coupled: dict = dataclasses.field(default_factory=dict)
    byte_lengths_V: Any = None
    ids: int = V

    def states(self, batch):
        return batch["states"]

    def log_probs(self, batch, states=None):
        return token_scores.log_probs(batch["logits"], batch["targets"])

    def dropout(self, x, batch):
        return x

    def beside(self, score, batch, name):
        return score(batch["logits"], jax.lax.stop_gradient(batch["teacher"]), batch["targets"], self.ids)


@pytest.fixture(scope="module")
def torch():
    """On one thread: the arrays are tiny."""
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


def built(call: str) -> Objective:
    return registry.build("train.objectives", call)


@functools.cache
def ours(call: str):
    """(variables, the rest of a batch) -> ((value, sums), gradients)."""
    objective = built(call)

    def value(variables, batch):
        sums = objective.sums(Given(variables["heads"]), {**batch, **variables})
        return sums["objective"] / jnp.maximum(objective.count(batch), 1), sums

    return jax.jit(jax.value_and_grad(value, has_aux=True))


def ragged(draw: np.random.Generator, *shape: int) -> np.ndarray:
    """Weights [..., T] of a run of targets; none in the last row."""
    length = draw.integers(1, T, size=(*shape, 1))
    weights = ((np.arange(T) < length) & (np.arange(T) >= draw.integers(0, length))).astype(np.float64)
    weights[-1] = 0
    return weights


def agree(call: str, variables: dict, batch: dict, oracle, torch) -> None:
    """``oracle(variables, batch)``, of tensors of the rows that are no filling, is the value, with its gradients."""
    (found, _), gradients = ours(call)(variables, batch)
    leaves = jax.tree.map(lambda a: torch.tensor(a, requires_grad=True), variables)
    real = {name: torch.tensor(a[:-1]) for name, a in batch.items()}
    cut = {name: leaf[:-1] if name != "heads" else leaf for name, leaf in leaves.items()}
    wanted = oracle(cut, real)
    np.testing.assert_allclose(float(found), wanted.item(), **CLOSE)
    flat = jax.tree.leaves(leaves)
    wanted = torch.autograd.grad(wanted, flat, allow_unused=True, materialize_grads=True)
    for mine, theirs in zip(jax.tree.leaves(gradients), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), **CLOSE)


def class_case(seed: int, call: str) -> tuple[dict, dict]:
    draw = np.random.default_rng(seed)
    objective: Any = built(call)
    orders = {"choice": OPTIONS, "similarity": 2}.get(registry.parse(call)[1].get("kind"), 1)
    heads = {"w": draw.normal(size=(D, 1 if objective.choice else OPTIONS))}
    heads |= {} if objective.choice else {"bias": draw.normal(size=OPTIONS)}
    variables = {
        "heads": heads,
        "states": draw.normal(size=(ROWS, orders, T, D)) * draw.choice([0.1, 1, 5]),
        "logits": draw.normal(size=(ROWS, orders, T, V)),
    }
    weights = ragged(draw, ROWS, orders)
    at = draw.integers(T, size=(ROWS, orders))
    label = draw.integers(OPTIONS, size=ROWS)
    if objective.choice:  # a row with an option fewer
        at[0, -1], weights[0, -1], label[0] = -1, 0, draw.integers(OPTIONS - 1)
    return variables, {
        "weights": weights,
        "targets": draw.integers(V, size=(ROWS, orders, T)),
        "at": at,
        "class": label,
    }


def gpt1(torch: Any, call: str, lm: float):
    """``train.py`` of openai/finetune-transformer-lm: a head on the states at the extract tokens, and the mean over rows of
    their mean LM loss."""

    cross_entropy = torch.nn.functional.cross_entropy

    def loss(variables, batch):
        heads, at, weights = variables["heads"], batch["at"], batch["weights"]
        state = torch.take_along_dim(variables["states"], at.clamp(0)[..., None, None], 2)[:, :, 0]
        if "choice" in call:
            logits = (state @ heads["w"])[..., 0].masked_fill(at < 0, -math.inf)
        else:
            logits = state.sum(1) @ heads["w"] + heads["bias"]
        nll = cross_entropy(variables["logits"].flatten(0, 2), batch["targets"].flatten(), reduction="none")
        rows = (nll.reshape(weights.shape) * weights).sum(-1) / weights.sum(-1).clamp(1)
        return cross_entropy(logits, batch["class"]) + lm * (rows.sum(1) / (at >= 0).sum(1)).mean()

    return loss


@pytest.mark.parametrize(
    ("call", "lm"),
    [
        ("classify(classes=3)", 0.5),
        ("classify(classes=3, kind='similarity', lm=0.25)", 0.25),
        ("classify(classes=3, kind='choice', lm=1.0)", 1.0),
    ],
)
def test_classification_is_that_of_gpt(torch, call, lm):
    with jax.enable_x64(True):
        for seed in range(CASES):
            agree(call, *class_case(seed, call), gpt1(torch, call, lm), torch)


def test_without_its_weight_the_language_model_has_no_gradient():
    with jax.enable_x64(True):
        call = "classify(classes=3, lm=0.0)"
        variables, batch = class_case(0, call)
        (found, sums), gradients = ours(call)(variables, batch)
        assert not np.any(gradients["logits"]) and "lm_loss" not in sums
        (with_lm, more), _ = ours("classify(classes=3)")(variables, batch)
        assert float(with_lm) == pytest.approx(float(found) + 0.5 * float(more["lm_loss"]) / (ROWS - 1))


def reward_case(seed: int, filled: bool) -> tuple[dict, dict]:
    """Completions of any place in the row; ``filled``: with a margin."""
    draw = np.random.default_rng(seed)
    heads = {"w": draw.normal(size=(D, 1)), "bias": draw.normal(size=1)}
    states = draw.normal(size=(ROWS, 2, T, D)) * draw.choice([0.1, 1, 5])
    batch = {"weights": ragged(draw, ROWS, 2)}
    return {"heads": heads, "states": states}, batch | ({"margin": draw.normal(size=ROWS)} if filled else {})


@pytest.mark.parametrize("margin", [False, True])
def test_rewards_are_compared_as_openrlhf_compares_them(torch, margin):
    pairwise = oracles.taken(
        "openrlhf==0.11.2",
        "openrlhf-0.11.2.data/purelib/openrlhf/models/loss.py",
        "PairWiseLoss",
        PAIRWISE,
        nn=torch.nn,
        torch=torch,
        F=torch.nn.functional,
    )()

    def loss(variables, batch):
        heads, rewards = variables["heads"], []
        for b in range(ROWS - 1):
            for c in range(2):
                end = int(batch["weights"][b, c].nonzero().max()) + 1
                rewards.append(variables["states"][b, c, end] @ heads["w"][:, 0] + heads["bias"][0])
        chosen, rejected = torch.stack(rewards).reshape(-1, 2).T
        centred = 0.01 * ((chosen + rejected) ** 2).mean()
        return pairwise(chosen, rejected, batch["margin"] if margin else None) + centred

    with jax.enable_x64(True):
        for seed in range(CASES):
            agree("reward", *reward_case(seed, margin), loss, torch)


def test_equal_rewards_lose_log_two():
    variables, batch = reward_case(0, False)
    variables["states"][:, 1], batch["weights"][:, 1] = variables["states"][:, 0], batch["weights"][:, 0]
    (found, sums), _ = ours("reward(center=0.0)")(variables, batch)
    assert float(found) == pytest.approx(math.log(2)) and float(sums["accuracy"]) == 0.5 * (ROWS - 1)


def test_the_end_is_found_on_either_side_of_the_padding():
    weights = np.zeros((1, 3, 8))
    weights[0, 0, 2:5] = weights[0, 1, 4:7] = 1  # the last counted target is token 5, and 7
    weights[0, 2, 7] = 1  # read no further than the row goes
    np.testing.assert_array_equal(ends(weights), [[5, 7, 7]])


def distil_case(seed: int) -> tuple[dict, dict]:
    draw = np.random.default_rng(seed)
    shape = (ROWS, T, V)
    variables = {
        "heads": {},
        "logits": draw.normal(size=shape) * draw.choice([0.1, 1, 5]),
        "teacher": draw.normal(size=shape) * draw.choice([0.1, 1, 5]),
    }
    return variables, {"weights": ragged(draw, ROWS), "targets": draw.integers(V, size=(ROWS, T))}


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 1.0), (2.5, 0.6)])
def test_the_divergence_is_that_of_gkd(torch, beta, temperature, alpha):
    gkd = oracles.taken(
        "trl==1.16.0",
        "trl/experimental/gkd/gkd_trainer.py",
        "GKDTrainer.generalized_jsd_loss",
        GKD,
        torch=torch,
        F=torch.nn.functional,
    )

    def loss(variables, batch):
        labels = torch.where(batch["weights"] > 0, batch["targets"], -100)
        logits, teacher = variables["logits"], variables["teacher"].detach()
        apart = gkd(logits, teacher, labels, beta=beta, temperature=temperature)
        cross_entropy = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return alpha * temperature**2 * apart + (1 - alpha) * cross_entropy

    call = f"distill(teacher='x', beta={beta}, temperature={temperature}, alpha={alpha})"
    with jax.enable_x64(True):
        for seed in range(CASES // 8):
            agree(call, *distil_case(seed), loss, torch)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(beta):
    with jax.enable_x64(True):
        variables, batch = distil_case(1)
        variables["teacher"] = variables["logits"]
        (found, _), gradients = ours(f"distill(teacher='x', beta={beta})")(variables, batch)
        assert abs(float(found)) < 1e-14 and float(jnp.abs(gradients["logits"]).max()) < 1e-14


def test_the_ends_of_the_divergence_are_the_two_kl():
    with jax.enable_x64(True):
        draw = np.random.default_rng(2)
        student, teacher = draw.normal(size=(2, 3, 4, V))
        p, q = (np.exp(a) / np.exp(a).sum(-1, keepdims=True) for a in (teacher, student))
        np.testing.assert_allclose(divergence(student, teacher, 0.0), (p * np.log(p / q)).sum(-1))
        np.testing.assert_allclose(divergence(student, teacher, 1.0), (q * np.log(q / p)).sum(-1))


def test_ids_beyond_the_shared_ones_are_filling():
    """What either model says of rows of its vocabulary that are no token changes nothing."""
    variables, batch = distil_case(3)
    objective, known = built("distill(teacher='x')"), V - 2
    sums = lambda v: objective.sums(Given({}, ids=known), {**batch, **v, "targets": batch["targets"] % known})
    wanted = sums({name: variables[name][..., :known] for name in ("logits", "teacher")})["divergence"]
    np.testing.assert_allclose(sums(variables)["divergence"], wanted, rtol=1e-5)
