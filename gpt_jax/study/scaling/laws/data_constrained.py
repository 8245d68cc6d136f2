"""Diminishing value of repeated tokens and of excess parameters (Muennighoff et al. 2023)."""

import numpy as np

from gpt_jax.registry import register
from gpt_jax.study.scaling.laws import Columns, Law, by_complex_step
from gpt_jax.study.scaling.laws.chinchilla import chinchilla


@register("study.scaling.laws", "data_constrained")
def data_constrained() -> Law:
    """E + A / N'^alpha + B / D'^beta (equation 5), with D' = U + U R (1 - exp(-r / R)) of U unique tokens that were
    repeated r times (equation 6), and N' likewise of the parameters that are optimal for U tokens (appendix A)."""
    once = chinchilla()

    def start(random, count, columns, log_loss):
        halves = np.log(random.uniform(1, 50, (count, 2)))
        return np.concatenate([once.start(random, count, columns, log_loss), halves], axis=1)

    return Law(
        "E + A / N'^alpha + B / D'^beta, X' = U + U R_X (1 - exp(-(X / U - 1) / R_X))",
        ("params", "tokens", "unique_tokens"),
        (*once.coefficients, "R_params", "R_tokens"),
        by_complex_step(_log_loss),
        start,
        lambda theta: np.concatenate([once.report(theta[:, :5]), np.exp(theta[:, 5:])], axis=1),
        once.limits,
    )


def _log_loss(theta_SP: np.ndarray, columns: Columns) -> np.ndarray:
    e, a, b, alpha, beta, r_n, r_d = (theta_SP[:, i, None] for i in range(7))
    unique = np.minimum(columns["unique_tokens"], columns["tokens"])
    # At the optimum alpha A / N^alpha = beta B / D^beta.
    fed = np.exp((np.log(alpha) + a - np.log(beta) - b + beta * np.log(unique)) / alpha)
    fed = np.where(fed.real < columns["params"], fed, columns["params"])
    with np.errstate(all="ignore"):  # descents that diverge; they are discarded
        n = np.log(_worth(fed, columns["params"], np.exp(r_n)))
        d = np.log(_worth(unique, columns["tokens"], np.exp(r_d)))
        return np.log(np.exp(e) + np.exp(a - alpha * n) + np.exp(b - beta * d))


def _worth(unique, total, half):
    return unique * (1 + half * (1 - np.exp(-(total / unique - 1) / half)))
