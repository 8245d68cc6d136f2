"""The loss during a run by its schedule: the summed learning rates, and their annealing (Tissue et al. 2024)."""

from collections.abc import Sequence

import numpy as np

from gpt_jax.registry import register
from gpt_jax.study.scaling.laws import EXPONENT, FLOOR, Columns, Law, by_complex_step

MEMORY = 0.999


@register("study.scaling.laws", "annealing")
def annealing() -> Law:
    """L = E + A / S1^alpha - C S2 (equation 1), of the columns that ``areas`` makes."""
    return Law(
        "E + A / lr_area^alpha - C lr_annealed",
        ("lr_area", "lr_annealed"),
        ("E", "A", "alpha", "C"),
        by_complex_step(_log_loss),
        _start,
        lambda theta: np.concatenate([np.exp(theta[:, :2]), theta[:, 2:]], axis=1),
        lambda lowest_loss: {"E": (FLOOR * lowest_loss, np.inf), "alpha": EXPONENT},
    )


def areas(rates: Sequence[float], memory: float = MEMORY) -> tuple[np.ndarray, np.ndarray]:
    """S1 and S2 after each step: the sum of the learning rates, and the sum of a momentum of their falls."""
    rates_ = np.asarray(rates, float)
    falls, total, momentum = -np.diff(rates_, prepend=rates_[:1]), np.zeros(len(rates_)), 0.0
    for step, fall in enumerate(falls):
        momentum = memory * momentum + fall
        total[step] = momentum
    return np.cumsum(rates_), np.cumsum(total)


def _log_loss(theta_SP: np.ndarray, columns: Columns) -> np.ndarray:
    e, a, alpha, c = (theta_SP[:, i, None] for i in range(4))
    loss = np.exp(e) + np.exp(a - alpha * np.log(columns["lr_area"])) - c * columns["lr_annealed"]
    # Far from any fit the annealing term may exceed the loss; a tiny loss in its place sends the search back.
    return np.log(np.where(loss.real > 1e-6, loss, 1e-6))


def _start(random: np.random.Generator, count: int, columns: Columns, log_loss: np.ndarray) -> np.ndarray:
    lowest, middle = np.exp(log_loss.min()), np.exp(np.median(log_loss))
    alpha = random.uniform(0.1, 1.0, count)
    floor = random.uniform(0.1, 0.98, count) * lowest
    a = np.log(middle - floor) + alpha * np.median(np.log(columns["lr_area"]))
    most = max(columns["lr_annealed"].max(), 1e-30)
    return np.stack([np.log(floor), a, alpha, random.uniform(0, 0.2, count) * middle / most], axis=1)
