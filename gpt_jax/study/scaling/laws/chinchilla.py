"""An irreducible loss plus power laws of parameters and of tokens (Hoffmann et al. 2022, approach 3, equations 2 and 3)."""

import numpy as np

from gpt_jax.registry import register
from gpt_jax.study.scaling.laws import EXPONENT, FLOOR, Columns, Law, Limits, log_sum


@register("study.scaling.laws", "chinchilla")
def chinchilla() -> Law:
    """L = E + A / N^alpha + B / D^beta."""
    return Law(
        "E + A / params^alpha + B / tokens^beta",
        ("params", "tokens"),
        ("E", "A", "B", "alpha", "beta"),
        _evaluate,
        _start,
        lambda theta: np.concatenate([np.exp(theta[:, :3]), theta[:, 3:]], axis=1),
        _limits,
    )


def _limits(lowest_loss: float) -> Limits:
    return {"E": (FLOOR * lowest_loss, lowest_loss), "alpha": EXPONENT, "beta": EXPONENT}


def _evaluate(theta_SP: np.ndarray, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    n, d = np.log(columns["params"]), np.log(columns["tokens"])
    e, a, b, alpha, beta = (theta_SP[:, i, None] for i in range(5))
    terms = np.stack(np.broadcast_arrays(e, a - alpha * n, b - beta * d), axis=-1)
    log_loss, shares = log_sum(terms)
    return log_loss, np.concatenate(
        [shares, (-shares[..., 1] * n)[..., None], (-shares[..., 2] * d)[..., None]], axis=-1
    )


def _start(random: np.random.Generator, count: int, columns: Columns, log_loss: np.ndarray) -> np.ndarray:
    """Exponents in the range of published ones, and the reducible loss at the median split at random."""
    lowest, middle = np.exp(log_loss.min()), np.exp(np.median(log_loss))
    alpha, beta = random.uniform(0.05, 1.0, (2, count))
    floor = random.uniform(0.1, 0.98, count) * lowest
    share = random.uniform(0.1, 0.9, count)
    a = np.log((middle - floor) * share) + alpha * np.median(np.log(columns["params"]))
    b = np.log((middle - floor) * (1 - share)) + beta * np.median(np.log(columns["tokens"]))
    return np.stack([np.log(floor), a, b, alpha, beta], axis=1)
