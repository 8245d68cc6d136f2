"""Compute-optimal splits by a law: the params and tokens of the lowest loss at FLOPs = 6 params tokens."""

import numpy as np

from gpt_jax.study.scaling.laws import Law

FLOPS_PER_PARAM_AND_TOKEN = 6.0
GRID = 600


def optimum(law: Law, theta_SP: np.ndarray, flops: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Params, tokens and loss of the best split, [S] each; nan where the law has none inside 1 to ``flops`` params."""
    log_product = np.log(flops / FLOPS_PER_PARAM_AND_TOKEN)
    params = np.linspace(0, log_product, GRID)
    log_loss, _ = law.evaluate(theta_SP, {"params": np.exp(params), "tokens": np.exp(log_product - params)})
    best = np.argmin(log_loss, axis=1)
    inside = (best > 0) & (best < GRID - 1)
    best = np.clip(best, 1, GRID - 2)
    rows = np.arange(len(theta_SP))
    # The lowest point of the parabola through the best point of the grid and its neighbours.
    left, middle, right = (log_loss[rows, best + i] for i in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1), 0)
    at = params[best] + shift * (params[1] - params[0])
    at = np.where(inside, at, np.nan)
    loss = np.where(inside, middle - 0.25 * (left - right) * shift, np.nan)
    return np.exp(at), np.exp(log_product - at), np.exp(loss)


def exponent(law: Law, theta_SP: np.ndarray, flops: float) -> np.ndarray:
    """a of params ~ FLOPs^a at ``flops``, [S]: the slope over a decade."""
    low, high = (optimum(law, theta_SP, flops * factor)[0] for factor in (10**-0.5, 10**0.5))
    return np.log10(high / low)
