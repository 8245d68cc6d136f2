"""Runs that differ in their seed alone: what they say of the noise, and with that whether a law fits at all."""

import dataclasses

import numpy as np
import scipy

from gpt_jax.study.scaling.fit import Fit, descend
from gpt_jax.study.scaling.table import RunTable, settings

ALPHA = 0.05
SQUARES = 1e3  # of Huber's loss: no residual of a log loss is as large, so that all are squared


@dataclasses.dataclass(frozen=True)
class LackOfFit:
    """The F test of a law against the means of repeated runs (Draper & Smith 1998, section 2.1).

    Args:
      ratio: variance of these means about the law / variance between seeds, per degree of freedom.
      p: of a ratio as large, if the law is right and log losses are normal.
      freedom: degrees of freedom of both.
    """

    ratio: float
    p: float
    freedom: tuple[int, int]

    @property
    def significant(self) -> bool:
        return self.p < ALPHA

    def __str__(self) -> str:
        verdict = "the law does not fit: its coefficients are no result" if self.significant else "the law may be right"
        return f"lack of fit: F({self.freedom[0]}, {self.freedom[1]}) = {self.ratio:.3g}, p = {self.p:.2g}; {verdict}"


def lack_of_fit(found: Fit, points: RunTable) -> LackOfFit | None:
    """Of a fitted law; None where no runs are repeated, or too few settings are left to test.

    The ratio has an F distribution about the law's least squares, which is what is tested; the fit itself gives less weight
    to outliers.
    """
    setting_M = settings(points, found.law.columns)
    counts_G = np.bincount(setting_M)
    freedom = len(counts_G) - len(found.law.coefficients), len(points) - len(counts_G)
    if min(freedom) < 1:
        return None
    log_loss_M = np.log(points["loss"])
    means_G = np.bincount(setting_M, log_loss_M) / counts_G
    within = np.square(log_loss_M - means_G[setting_M]).sum()
    even = np.full((1, len(points)), 1 / len(points))
    theta, _ = descend(found.law, points, found.theta[None], even, delta=SQUARES)
    about = np.square(means_G[setting_M] - found.law.evaluate(theta, points.columns)[0][0]).sum()
    ratio = float((about / freedom[0]) / max(within / freedom[1], 1e-300))
    return LackOfFit(ratio, float(scipy.stats.f.sf(ratio, *freedom)), freedom)
