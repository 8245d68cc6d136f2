"""Model size and data as two bottlenecks of one power law, without an irreducible loss (Kaplan et al. 2020)."""

import numpy as np

from gpt_jax.registry import register
from gpt_jax.study.scaling.laws import EXPONENT, Columns, Law, log_sum


@register("study.scaling.laws", "kaplan")
def kaplan() -> Law:
    """L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D (equation 1.5)."""
    return Law(
        "((N_c / params)^(alpha_N / alpha_D) + D_c / tokens)^alpha_D",
        ("params", "tokens"),
        ("N_c", "D_c", "alpha_N", "alpha_D"),
        _evaluate,
        _start,
        lambda theta: np.concatenate([np.exp(theta[:, :2]), theta[:, 2:]], axis=1),
        lambda lowest_loss: {"alpha_N": EXPONENT, "alpha_D": EXPONENT},
    )


def _evaluate(theta_SP: np.ndarray, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    n, d = np.log(columns["params"]), np.log(columns["tokens"])
    n_c, d_c, alpha_n, alpha_d = (theta_SP[:, i, None] for i in range(4))
    ratio = alpha_n / alpha_d
    total, shares = log_sum(np.stack(np.broadcast_arrays(ratio * (n_c - n), d_c - d), axis=-1))
    by_n = shares[..., 0] * (n_c - n)
    derivatives = (alpha_n * shares[..., 0], alpha_d * shares[..., 1], by_n, total - ratio * by_n)
    return alpha_d * total, np.stack(derivatives, axis=-1)


def _start(random: np.random.Generator, count: int, columns: Columns, log_loss: np.ndarray) -> np.ndarray:
    alpha_n, alpha_d = np.exp(random.uniform(np.log(0.02), np.log(0.5), (2, count)))
    middle = np.median(log_loss)
    n_c = np.median(np.log(columns["params"])) + middle / alpha_n * random.uniform(0.5, 1.0, count)
    d_c = np.median(np.log(columns["tokens"])) + middle / alpha_d * random.uniform(0.5, 1.0, count)
    return np.stack([n_c, d_c, alpha_n, alpha_d], axis=1)
