"""Fits a law to runs: Huber loss of the log loss, from many starts; all starts and bootstrap samples are fitted at once."""

import dataclasses

import numpy as np
import scipy

from gpt_jax import bars
from gpt_jax.errors import UserError
from gpt_jax.study.scaling.laws import Law
from gpt_jax.study.scaling.table import RunTable, settings

DELTA = 1e-3  # Hoffmann et al. 2022
STARTS, ITERATIONS, CHUNK = 200, 400, 250
SAME = 1e-3  # optima with a smaller relative difference of their objectives are one
FLAT = 1e-5  # a direction is flat if its eigenvalue of the scaled curvature is below this part of the greatest
MAX_DAMPING = 1e10  # no step helps beyond


@dataclasses.dataclass(frozen=True)
class Optimum:
    """A local optimum: its mean Huber loss, its coefficients [P], and how many starts ended there."""

    objective: float
    theta: np.ndarray
    starts: int


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law with coefficients.

    Args:
      optima: from the best to the worst; the first is the fit.
      flat: directions of theta that the points hardly determine, as unit vectors [P].
    """

    law: Law
    optima: tuple[Optimum, ...]
    flat: tuple[np.ndarray, ...]
    delta: float

    @property
    def theta(self) -> np.ndarray:
        return self.optima[0].theta

    @property
    def coefficients(self) -> dict[str, float]:
        values = self.law.report(self.theta[None])[0]
        return dict(zip(self.law.coefficients, values.tolist(), strict=True))

    def predict(self, points: RunTable) -> np.ndarray:
        """Losses, [M]."""
        return np.exp(self.law.evaluate(self.theta[None], points.columns)[0][0])


def fit(law: Law, points: RunTable, *, seed: int = 0, delta: float = DELTA, starts: int = STARTS) -> Fit:
    """Fits from many starts and keeps the best.

    Raises:
      UserError: too few points or values of a column, or a column that the law needs is missing.
    """
    check(law, points)
    log_loss, weights = np.log(points["loss"]), np.full((starts, len(points)), 1 / len(points))
    theta = law.start(np.random.default_rng(seed), starts, points.columns, log_loss)
    theta, objective = descend(law, points, theta, weights, delta)
    order = np.argsort(objective, kind="stable")
    optima: list[Optimum] = []
    for i in order[np.isfinite(objective[order])]:
        if optima and objective[i] - optima[-1].objective <= SAME * optima[-1].objective + 1e-15:
            optima[-1] = dataclasses.replace(optima[-1], starts=optima[-1].starts + 1)
        else:
            optima.append(Optimum(float(objective[i]), theta[i], 1))
    return Fit(law, tuple(optima), flat_directions(law, points, optima[0].theta), delta)


def check(law: Law, points: RunTable) -> None:
    needed = len(law.coefficients) + 1
    if len(points) < needed:
        raise UserError(
            f"{len(points)} points are too few to fit {law.formula}",
            where="; ".join(points.excluded),
            allowed=f"{needed} or more: one more than its {needed - 1} coefficients",
        )
    missing = [name for name in law.columns if name not in points.columns]
    if missing:
        raise UserError(f"the law {law.formula} needs the column {', '.join(missing)}", allowed=", ".join(law.columns))
    for name in law.columns:
        if (distinct := len(np.unique(points[name]))) < 3:
            raise UserError(
                f"the runs have {distinct} distinct {name}, which do not determine its exponent",
                allowed="3 or more",
                fix=f"add runs with other {name}",
            )


def descend(
    law: Law, points: RunTable, theta: np.ndarray, weights: np.ndarray, delta: float, fixed: tuple[int, ...] = ()
):
    """Minima reached from each row of theta [S, P] under its row of weights [S, M]: theta, and objectives [S].

    Levenberg-Marquardt with iteratively reweighted least squares for the Huber loss. Coefficients with the indices
    ``fixed`` stay.
    """
    theta, damping, log_loss = theta.copy(), np.full(len(theta), 1e-3), np.log(points["loss"])
    free = np.delete(np.arange(theta.shape[1]), fixed)
    value, jacobian = law.evaluate(theta, points.columns)
    objective = (weights * huber(value - log_loss, delta)).sum(-1)
    converged = np.zeros(len(theta), int)  # steps in a row without a gain
    for _ in range(ITERATIONS):
        active = np.flatnonzero((converged < 3) & (damping < MAX_DAMPING) & (objective > 0))
        if not len(active):
            break
        step = _step(value[active] - log_loss, jacobian[active][..., free], weights[active], damping[active], delta)
        tried = theta[active]
        tried[:, free] += step
        with np.errstate(over="ignore", invalid="ignore"):
            new_value, new_jacobian = law.evaluate(tried, points.columns)
            new_objective = (weights[active] * huber(new_value - log_loss, delta)).sum(-1)
        better = (new_objective < objective[active]) & np.isfinite(new_jacobian).all((1, 2))
        gained = np.where(better, 1 - new_objective / objective[active], 1)
        converged[active] = np.where(gained < 1e-10, converged[active] + 1, np.where(better, 0, converged[active]))
        damping[active] = np.where(better, np.maximum(damping[active] / 5, 1e-12), damping[active] * 4)
        took = active[better]
        theta[took], value[took], objective[took] = tried[better], new_value[better], new_objective[better]
        jacobian[took] = new_jacobian[better]
    return theta, objective


def _step(residual, jacobian, weights, damping, delta):
    robust = weights / np.maximum(np.abs(residual) / delta, 1)
    weighted = jacobian * robust[..., None]
    gradient = np.einsum("smp,sm->sp", weighted, residual)
    curvature = np.einsum("smp,smq->spq", weighted, jacobian, optimize=True)
    diagonal = np.einsum("spp->sp", curvature)
    diagonal *= 1 + damping[:, None]
    diagonal += 1e-300
    # In units of each coefficient's own curvature, so that none is lost to rounding.
    unit = 1 / np.sqrt(diagonal)
    scaled = curvature * unit[:, :, None] * unit[:, None, :]
    scaled += 1e-14 * np.eye(scaled.shape[1])
    return unit * np.linalg.solve(scaled, -(unit * gradient)[..., None])[..., 0]


def huber(residual: np.ndarray, delta: float) -> np.ndarray:
    """r^2 / 2 up to delta, linear beyond (Huber 1964)."""
    size = np.abs(residual)
    return np.where(size <= delta, residual**2 / 2, delta * (size - delta / 2))


def bootstrap(found: Fit, points: RunTable, count: int, *, seed: int = 0) -> np.ndarray:
    """Coefficients [count, P] of fits to settings drawn with replacement, as many as there are, each started from the fit.

    Runs that differ in their seed alone are drawn together: what a law leaves out is the same in all of them.
    """
    setting_M = settings(points, found.law.columns)
    m = int(setting_M.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), count)[:, setting_M]
    shares = drawn / drawn.sum(1, keepdims=True)
    chunks = [shares[i : i + CHUNK] for i in range(0, count, CHUNK)]
    thetas = []
    for weights in bars.bar(chunks, desc="bootstrap", leave=False):
        start = np.repeat(found.theta[None], len(weights), axis=0)
        thetas.append(descend(found.law, points, start, weights, found.delta)[0])
    return np.concatenate(thetas)


def profile(found: Fit, points: RunTable, index: int, values: np.ndarray) -> np.ndarray:
    """By value of the coefficient at ``index`` of theta, the likelihood ratio statistic of the best fit that has it.

    2 m (S(value) - S) A / B, with A and B the means of Huber's second derivative and squared first: chi-squared with one
    degree of freedom where the value is the true one (Ronchetti 1982). A is taken as that of a normal distribution.
    """
    residual = np.log(found.predict(points)) - np.log(points["loss"])
    m, spread = len(points), max(float(np.median(np.abs(residual))) / scipy.stats.norm.ppf(0.75), 1e-12)
    bend = 2 * scipy.stats.norm.cdf(found.delta / spread) - 1
    slope = np.square(np.clip(residual, -found.delta, found.delta)).mean()
    # From the fit outwards, each from the solution of its neighbour.
    order = np.argsort(np.abs(values - found.theta[index]))
    theta = {True: found.theta, False: found.theta}
    objectives = np.empty(len(values))
    for i in order:
        above = bool(values[i] > found.theta[index])
        start = theta[above].copy()
        start[index] = values[i]
        ends, objective = descend(found.law, points, start[None], np.full((1, m), 1 / m), found.delta, (index,))
        theta[above], objectives[i] = ends[0], objective[0]
    return 2 * m * np.maximum(objectives - found.optima[0].objective, 0) * bend / slope


def flat_directions(law: Law, points: RunTable, theta: np.ndarray) -> tuple[np.ndarray, ...]:
    """Directions of theta, relative to each coefficient's own curvature, along which the fit hardly changes."""
    jacobian = law.evaluate(theta[None], points.columns)[1][0]
    curvature = jacobian.T @ jacobian
    unit = 1 / np.sqrt(np.maximum(np.diag(curvature), 1e-300))
    values, vectors = np.linalg.eigh(curvature * unit[:, None] * unit)
    flat = [vector * unit for value, vector in zip(values, vectors.T, strict=True) if value < FLAT * values[-1]]
    return tuple(vector / np.linalg.norm(vector) for vector in flat)
