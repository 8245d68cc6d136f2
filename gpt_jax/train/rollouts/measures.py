"""What is reported of a rollout."""

import numpy as np

from gpt_jax.train.objectives.policy import MOST
from gpt_jax.train.rollouts.writing import Written

Arrays = dict[str, np.ndarray]


def described(written: Written, total_N: np.ndarray, parts: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over completions: the reward and its parts, tokens, and how many the policy ended; and the tokens of completions
    that are worth more than the mean, and of the others."""
    found = {"reward": mean(total_N)}
    if len(parts) > 1:
        found |= {f"reward_{name}": mean(values) for name, values in parts.items()}
    length_N = np.array([len(c.ids) for c in written.completions], float)
    found["length"], found["ended"] = float(length_N.mean()), float(np.mean([c.ended for c in written.completions]))
    real_N = np.isfinite(total_N)
    better_N = real_N & (total_N > found["reward"])
    for name, rows_N in (("length_better", better_N), ("length_worse", real_N & ~better_N)):
        found[name] = float(length_N[rows_N].mean()) if rows_N.any() else found["length"]
    return found


def mean(value_N: np.ndarray) -> float:
    """Over the rows that have a value; 0 where none has."""
    there = value_N[np.isfinite(value_N)]
    return float(there.mean()) if len(there) else 0.0


def dead(total_PG: np.ndarray) -> np.ndarray:
    """Whether the completions of a prompt are all worth the same, [P]: they do not say which is better."""
    known_PG = np.isfinite(total_PG)
    highest_P = np.where(known_PG, total_PG, -np.inf).max(1)
    return highest_P <= np.where(known_PG, total_PG, np.inf).min(1)


def divergence(weights_NT: np.ndarray, log_ratio_NT: np.ndarray) -> dict[str, float]:
    """Of the policy from the reference, by what the policy wrote: nats by the estimates k1 and k3, a completion and a
    token."""
    near_NT = np.clip(log_ratio_NT, -MOST, MOST)
    k3_NT = np.expm1(-near_NT) + near_NT
    targets = max(weights_NT.sum(), 1)
    return {
        "kl": float(log_ratio_NT.sum(1).mean()),
        "kl_k3": float(k3_NT.sum(1).mean()),
        "kl_per_token": float(log_ratio_NT.sum() / targets),
        "kl_k3_per_token": float(k3_NT.sum() / targets),
    }


def gap(written: Written, weights_NT: np.ndarray, raw_NT: np.ndarray) -> dict[str, float]:
    """How far the log-probabilities of the decoder are from those of training's forward pass, nats a token."""
    rows = zip(written.logprobs, raw_NT, weights_NT, strict=True)
    apart = np.concatenate([np.abs(np.asarray(own, float) - raw_T[weight_T > 0]) for own, raw_T, weight_T in rows])
    return {"sampler_gap": float(apart.mean()), "sampler_gap_max": float(apart.max())}
