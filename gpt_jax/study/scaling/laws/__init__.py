"""Scaling laws: each file holds one form of the loss, its derivatives and the starts of its fits.

A law works on many sets of coefficients at once, theta [S, P], so that a thousand bootstrap samples are fitted together.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

Columns = dict[str, np.ndarray]  # name -> values, [M]
Limits = dict[str, tuple[float, float]]  # coefficient -> lowest and highest credible value
H = 1e-30
EXPONENT = (1e-3, 3.0)  # published exponents lie between 0.05 and 1
FLOOR = 1e-3  # an irreducible loss below this part of the lowest loss is zero


@dataclasses.dataclass(frozen=True)
class Law:
    """A scaling law.

    Args:
      formula: the law as text.
      columns: the columns that it depends on.
      coefficients: names of the reported values, in the order of theta.
      evaluate: (theta [S, P], columns) -> log of the loss [S, M], and its derivatives by theta [S, M, P].
      start: (random generator, number, columns, log of the losses [M]) -> theta [number, P] to start fits from.
      report: theta [S, P] -> the coefficients as they are written in the formula, [S, P].
      limits: lowest loss -> the range of each coefficient outside which a fit is degenerate.
    """

    formula: str
    columns: tuple[str, ...]
    coefficients: tuple[str, ...]
    evaluate: Callable[[np.ndarray, Columns], tuple[np.ndarray, np.ndarray]]
    start: Callable[[np.random.Generator, int, Columns, np.ndarray], np.ndarray]
    report: Callable[[np.ndarray], np.ndarray]
    limits: Callable[[float], Limits]


def log_sum(terms_SMK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log of the sum of exponentials over the last axis, and each term's share of the sum."""
    top = terms_SMK.max(-1, keepdims=True)
    shares = np.exp(terms_SMK - top)
    total = shares.sum(-1, keepdims=True)
    return (top + np.log(total))[..., 0], shares / total


def by_complex_step(log_loss: Callable[[np.ndarray, Columns], np.ndarray]) -> Callable:
    """Makes ``evaluate`` of an analytic function theta [S, P] -> log of the loss [S, M] that takes complex theta.

    The derivative is the imaginary part of f(theta + i h) / h, exact to rounding (Squire & Trapp 1998).
    """

    def evaluate(theta_SP: np.ndarray, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
        steps = 1j * H * np.eye(theta_SP.shape[1])
        jacobian = [log_loss(theta_SP + step, columns).imag / H for step in steps]
        return log_loss(theta_SP.astype(complex), columns).real, np.stack(jacobian, axis=-1)

    return evaluate
