"""Preference objectives beside published code, value and gradient in float64; and what holds of them exactly."""

import dataclasses
import functools
import math
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.train import token_scores
from gpt_jax.train.objectives import Objective
from tests.train import oracles

CASES, ROWS, T, V = 100, 4, 7, 5  # the last row of each case is filling
TRL, NEWER = "trl==0.11.4", "trl==1.16.0"
DPO, ORPO = "trl/trainer/dpo_trainer.py", "trl/experimental/orpo/orpo_trainer.py"
DIGESTS = {
    "DPOTrainer.get_batch_logps": "6e75b0067438",
    "DPOTrainer.dpo_loss": "de2bb48537e4",
    "KTOTrainer.kto_loss": "df20e519ee96",
    "log1mexp": "e0bd1db32612",
    "ORPOTrainer.odds_ratio_loss": "e48a3fd6add3",
    "CPOTrainer.cpo_loss": "1ddb033d718b",
}


@dataclasses.dataclass
class Given:
    """A forward pass over logits that the batch has."""

    coupled: dict = dataclasses.field(default_factory=dict)
    heads: dict = dataclasses.field(default_factory=dict)
    byte_lengths_V: Any = None

    def log_probs(self, batch):
        return token_scores.log_probs(batch["logits"], batch["targets"])


def built(call: str) -> Objective:
    return registry.build("train.objectives", call)


def value(objective: Objective, batch: dict) -> tuple[jax.Array, dict]:
    """The mean over what counts, and the sums."""
    forward = Given()
    forward.coupled = jax.tree.map(jax.lax.stop_gradient, objective.coupled(forward, batch))
    sums = objective.sums(forward, batch)
    return sums["objective"] / jnp.maximum(objective.count(batch), 1), sums


@functools.cache
def ours(call: str):
    """(batch, logits) -> ((value, sums), gradient by the logits)."""
    of = lambda logits, batch: value(built(call), {**batch, "logits": logits})
    compiled = jax.jit(jax.value_and_grad(of, has_aux=True))
    return lambda batch: compiled(batch["logits"], {k: v for k, v in batch.items() if k != "logits"})


def case(seed: int) -> dict[str, np.ndarray]:
    """Pairs with ragged masks, of probabilities from nearly uniform to nearly certain."""
    draw = np.random.default_rng(seed)
    length = draw.integers(1, T + 1, size=(ROWS, 2, 1))
    weights = ((np.arange(T) < length) & (np.arange(T) >= draw.integers(0, length))).astype(np.float64)
    weights[-1] = 0
    batch = {"weights": weights, "targets": draw.integers(V, size=(ROWS, 2, T))}
    batch["logits"] = draw.normal(size=(ROWS, 2, T, V)) * draw.choice([0.1, 1, 5])
    batch["reference"] = -draw.exponential(5, size=(ROWS, 2))
    return batch | {"label": draw.integers(2, size=ROWS).astype(np.float64)}


def agree(call: str, oracle) -> None:
    """``oracle(torch, batch, logits)`` is the mean over the rows that are no filling."""
    torch = pytest.importorskip("torch")
    with jax.enable_x64(True):
        for seed in range(CASES):
            batch = case(seed)
            logits = torch.tensor(batch["logits"][:-1], requires_grad=True)
            wanted = oracle(
                torch, {name: torch.tensor(a[:-1]) for name, a in batch.items() if name != "logits"}, logits
            )
            (gradient,) = torch.autograd.grad(wanted, logits)
            (found, sums), ours_ = ours(call)(batch)
            np.testing.assert_allclose(float(found), wanted.item(), rtol=1e-6, atol=1e-9, err_msg=f"case {seed}")
            np.testing.assert_allclose(ours_[:-1], gradient.numpy(), rtol=1e-6, atol=1e-9, err_msg=f"case {seed}")
            assert not ours_[-1].any() and all(np.isfinite(a).all() for a in sums.values())


def log_probs(torch: Any, batch: dict, logits: Any, average: bool = False) -> Any:
    """TRL's, of the completions, [rows, 2]."""
    labels = torch.where(batch["weights"] > 0, batch["targets"], -100)
    logps = taken(TRL, DPO, "DPOTrainer.get_batch_logps")
    total, size = logps(logits.flatten(0, 1), labels.flatten(0, 1), is_encoder_decoder=True)
    return (total / size if average else total).reshape(-1, 2)


def dpo(torch: Any, self: Any, policy_BC: Any, reference_BC: Any) -> Any:
    return taken(TRL, DPO, "DPOTrainer.dpo_loss")(self, *policy_BC.T, *reference_BC.T)[0].mean()


@functools.cache
def taken(pin: str, file: str, name: str, **names: Any):
    import torch

    divergences = {kind: types.SimpleNamespace(value=kind) for kind in ("ALPHA_DIVERGENCE", "JS_DIVERGENCE")}
    names |= {"torch": torch, "F": torch.nn.functional, "FDivergenceType": types.SimpleNamespace(**divergences)}
    return oracles.taken(pin, file, name, DIGESTS[name], **names)


def dpo_of(kind: str, beta: float, smoothing: float) -> types.SimpleNamespace:
    return self_of(beta=beta, label_smoothing=smoothing, loss_type=kind, reference_free=False, f_divergence_type="")


def self_of(**values: Any) -> types.SimpleNamespace:
    """What stands for a trainer."""
    accelerator = types.SimpleNamespace(device="cpu", gather=lambda x: x)
    return types.SimpleNamespace(accelerator=accelerator, **values)


@pytest.mark.parametrize("beta, smoothing", [(0.1, 0.0), (0.7, 0.2)])
def test_dpo_is_that_of_trl(beta, smoothing):
    def oracle(torch, batch, logits):
        policy_BC, self = log_probs(torch, batch, logits), dpo_of("sigmoid", beta, smoothing)
        return dpo(torch, self, policy_BC, batch["reference"])

    agree(f"dpo(beta={beta}, smoothing={smoothing})", oracle)


def test_ipo_is_that_of_trl():
    def oracle(torch, batch, logits):
        length_BC = batch["weights"].sum(-1)
        policy_BC = log_probs(torch, batch, logits, average=True)
        return dpo(torch, dpo_of("ipo", 0.3, 0.0), policy_BC, batch["reference"] / length_BC)

    agree("ipo(tau=0.3)", oracle)


def test_kto_is_that_of_trl():
    self = self_of(beta=0.3, desirable_weight=1.2, undesirable_weight=0.8, loss_type="kto", calculate_KL=True)

    def oracle(torch, batch, logits):
        loss = taken(TRL, "trl/trainer/kto_trainer.py", "KTOTrainer.kto_loss")
        own, others = log_probs(torch, batch, logits).T
        own_reference, other_reference = batch["reference"].T
        wanted = batch["label"] > 0
        sides = [part for values in (own, own_reference) for part in (values[wanted], values[~wanted])]
        return loss(self, *sides[:2], others, *sides[2:], other_reference)[0].mean()

    agree("kto(beta=0.3, wanted=1.2, unwanted=0.8)", oracle)


def test_orpo_is_that_of_trl():
    """But for the likelihood, which is that of the chosen completion."""

    def oracle(torch, batch, logits):
        class Double(torch.Tensor):
            """Stays in float64 where the oracle asks for float32."""

            def float(self):
                return self

        log1mexp = taken(NEWER, ORPO, "log1mexp")
        loss = taken(NEWER, ORPO, "ORPOTrainer.odds_ratio_loss", log1mexp=log1mexp)
        chosen, rejected = log_probs(torch, batch, logits, average=True).T
        ratio = loss(self_of(beta=0.5), chosen.as_subclass(Double), rejected.as_subclass(Double))[0]
        return (-chosen - ratio).mean().as_subclass(torch.Tensor)

    agree("orpo(weight=0.5)", oracle)


def test_simpo_is_that_of_trl():
    self = self_of(beta=2.5, simpo_gamma=0.7, label_smoothing=0.0, loss_type="simpo", alpha=0.0)

    def oracle(torch, batch, logits):
        loss = taken(NEWER, "trl/experimental/cpo/cpo_trainer.py", "CPOTrainer.cpo_loss")
        return loss(self, *log_probs(torch, batch, logits, average=True).T)[0].mean()

    agree("simpo(beta=2.5, gamma=0.7)", oracle)


def at_reference(seed: int = 0) -> dict:
    """A case in which the policy is the reference."""
    batch = case(seed)
    logs = token_scores.log_probs(jnp.asarray(batch["logits"]), jnp.asarray(batch["targets"]))
    return {**batch, "reference": (logs * batch["weights"]).sum(-1)}


def test_a_policy_that_is_the_reference_has_the_loss_of_a_coin():
    with jax.enable_x64(True):
        batch = at_reference()
        assert float(value(built("dpo(smoothing=0.3)"), batch)[0]) == math.log(2)
        assert float(value(built("ipo(tau=0.25)"), batch)[0]) == 4.0
        labels = np.array([1, 0, 0, 1])  # the last is of filling
        loss, sums = value(built("kto(wanted=3.0, unwanted=1.0)"), {**batch, "label": labels})
        assert float(loss) == (3 + 1 + 1) / 2 / 3
        assert float(sums["drift"]) == 0 and float(sums["accuracy"]) == 1.5


def test_the_optimum_of_dpo_is_the_reference_tilted_by_the_reward():
    """A policy over V answers of one token, and every preference with its Bradley-Terry probability: the expected gradient
    is 0 at reference e^(reward / beta) / Z (Rafailov et al. 2023, equation 4), and nowhere else."""
    with jax.enable_x64(True):
        draw, beta = np.random.default_rng(0), 0.5
        reference_V, reward_V = np.asarray(jax.nn.log_softmax(draw.normal(size=V))), draw.normal(size=V)
        pairs = np.array([(w, l) for w in range(V) for l in range(V) if w != l])
        share_B = jax.nn.sigmoid(reward_V[pairs[:, 0]] - reward_V[pairs[:, 1]])

        def losses_B(logits_V):
            def loss(pair):
                batch = {"targets": pair[None, :, None], "weights": jnp.ones((1, 2, 1))}
                batch |= {"reference": jnp.asarray(reference_V)[pair][None]}
                batch["logits"] = jnp.broadcast_to(logits_V, (1, 2, 1, V))
                return value(built(f"dpo(beta={beta})"), batch)[0]

            return jax.vmap(loss)(jnp.asarray(pairs))

        gradient = jax.grad(lambda logits_V: (share_B * losses_B(logits_V)).sum())
        assert float(jnp.abs(gradient(reference_V + reward_V / beta)).max()) < 1e-12
        assert float(jnp.abs(gradient(reference_V + 0.9 * reward_V / beta)).max()) > 1e-3


@pytest.mark.parametrize("call", ["dpo", "ipo", "kto", "orpo", "simpo"])
def test_derivatives_are_finite_where_probabilities_are_0_or_1(call):
    """In float32, in which they are so exactly; and of filling, whatever stands in it."""
    batch = {name: np.float32(a) if a.dtype == np.float64 else a for name, a in case(0).items()}
    batch["targets"][:, 0], batch["targets"][:, 1] = 0, 1
    batch["logits"] = np.zeros((ROWS, 2, T, V), np.float32)
    batch["logits"][..., 0] = 200
    batch["reference"][-1] = np.inf
    for flipped in (batch, {**batch, "targets": batch["targets"][:, ::-1]}):
        (loss, sums), gradient = ours(call)(flipped)
        assert np.isfinite([loss, *sums.values()]).all() and np.isfinite(gradient).all()


def test_what_is_reported_of_pairs():
    with jax.enable_x64(True):
        batch = {**at_reference(), "reference": np.zeros((ROWS, 2))}
        (_, sums), _ = ours("dpo(beta=2.0)")(batch)
        logs_BC = np.asarray(at_reference()["reference"])[:-1]
        length_BC = batch["weights"].sum(-1)[:-1]
        for c, side in enumerate(("chosen", "rejected")):
            assert float(sums[f"{side}_log_prob"]) == pytest.approx(logs_BC[:, c].sum())
            assert float(sums[f"{side}_reward"]) == pytest.approx(2 * logs_BC[:, c].sum())
            assert float(sums[f"{side}_length"]) == length_BC[:, c].sum()
        assert float(sums["margin"]) == pytest.approx(2 * (logs_BC[:, 0] - logs_BC[:, 1]).sum())
        assert float(sums["accuracy"]) == (logs_BC[:, 0] > logs_BC[:, 1]).sum()


def test_what_is_reported_of_either_side_is_a_mean_over_its_rows():
    """In training, where all sums are divided by the count of rows, and in evaluation."""
    with jax.enable_x64(True):
        batch = {**case(1), "label": np.array([1.0, 0.0, 0.0, 1.0])}
        objective, forward = built("kto"), Given()
        forward.coupled = objective.coupled(forward, batch)
        logs_B = (forward.log_probs(batch) * batch["weights"]).sum(-1)[:, 0]
        totals = {name: float(a) for name, a in objective.evaluation(forward, batch).items()}
        shown = objective.metrics(totals)
        trained = objective.reported({name: float(a) / 3 for name, a in objective.sums(forward, batch).items()})
        for side, rows in (("wanted", [0]), ("unwanted", [1, 2])):
            mean = float(np.mean(logs_B[np.array(rows)]))
            assert shown[f"{side}_log_prob"] == pytest.approx(mean)
            assert trained[f"{side}_log_prob"] == pytest.approx(mean)
        assert shown.keys() == trained.keys() - {"objective"}


def test_a_batch_without_a_side_does_not_count_in_its_mean():
    with jax.enable_x64(True):
        objective, forward, steps = built("kto"), Given(), []
        for label in ([1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]):
            batch = {**case(1), "label": np.array(label)}
            forward.coupled = objective.coupled(forward, batch)
            steps.append({name: float(a) / 3 for name, a in objective.sums(forward, batch).items()})
        means = {name: (steps[0][name] + steps[1][name]) / 2 for name in steps[0]}
        both, alone = objective.reported(means), [objective.reported(step) for step in steps]
        assert both["unwanted_log_prob"] == pytest.approx(alone[0]["unwanted_log_prob"])
        counts = (1, 3)
        weighed = np.average([step["wanted_log_prob"] for step in alone], weights=counts)
        assert both["wanted_log_prob"] == pytest.approx(weighed) and "unwanted_log_prob" not in alone[1]
