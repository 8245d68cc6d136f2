"""Are scaling-law fits to be believed? A law is planted in made-up runs, and found again.

python -m benchmarks.law      # coverage of the intervals over 50 sets of runs, the optimum by 20 seeds, seconds of a fit
"""

import argparse
import time

import numpy as np
from tqdm import tqdm

from gpt_jax import registry
from gpt_jax.study.scaling import analysis, compute_optimal
from gpt_jax.study.scaling import fit as fitting
from gpt_jax.study.scaling.table import RunTable

HOFFMANN = np.array([1.69, 406.4, 410.7, 0.34, 0.28])
THETA = {
    "chinchilla": np.array([*np.log(HOFFMANN[:3]), *HOFFMANN[3:]]),
    "kaplan": np.array([np.log(8.8e13), np.log(5.4e13), 0.076, 0.095]),
    "data_constrained": np.array([*np.log(HOFFMANN[:3]), *HOFFMANN[3:], np.log(5.3), np.log(15.4)]),
    "annealing": np.array([np.log(2.6), np.log(0.6), 0.5, 0.3]),
}
NOISE, BUDGET = 0.01, 1e23  # of log loss; FLOPs at which optima are compared


def planted(law: str = "chinchilla", noise: float = 0.0, seed: int = 0, count: int = 245) -> RunTable:
    """Runs whose losses follow a law, as many as Hoffmann et al. fitted, and as large."""
    random = np.random.default_rng(seed)
    params = np.exp(random.uniform(np.log(4e7), np.log(1.6e10), count))
    tokens = np.exp(random.uniform(np.log(1e9), np.log(5e11), count))
    columns = {"params": params, "tokens": tokens, "flops": 6 * params * tokens}
    columns["unique_tokens"] = tokens / np.maximum(1, random.uniform(0.2, 40, count))
    columns["lr_area"], columns["lr_annealed"] = random.uniform(0.5, 20, count), random.uniform(0, 1, count)
    log_loss = registry.build("study.scaling.laws", law).evaluate(THETA[law][None], columns)[0][0]
    columns["loss"] = np.exp(log_loss + noise * random.standard_normal(count))
    return RunTable(tuple(f"run {i}" for i in range(count)), columns, ())


def covered(seed: int, starts: int, resamples: int) -> np.ndarray:
    """Which of the five coefficients lie within their 95% intervals, for one set of runs."""
    law, runs = registry.build("study.scaling.laws", "chinchilla"), planted(noise=NOISE, seed=seed)
    found = fitting.fit(law, runs, starts=starts)
    drawn = law.report(fitting.bootstrap(found, runs, resamples))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return (low <= HOFFMANN) & (HOFFMANN <= high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", type=int, default=50)
    sets = parser.parse_args().sets
    law = registry.build("study.scaling.laws", "chinchilla")
    exact = list(fitting.fit(law, planted()).coefficients.values())
    print(f"without noise: exponents {exact[3]:.5f}, {exact[4]:.5f}; planted {HOFFMANN[3]}, {HOFFMANN[4]}")
    runs = planted(noise=NOISE)
    begun = time.perf_counter()
    analysis.analyse(runs)
    print(f"{len(runs)} runs with {analysis.RESAMPLES} bootstrap samples: {time.perf_counter() - begun:.1f} s")
    optima = [
        compute_optimal.optimum(law, fitting.fit(law, runs, seed=seed).theta[None], BUDGET)[0][0] for seed in range(20)
    ]
    print(f"optimal params at {BUDGET:.0e} FLOPs by 20 seeds: {min(optima):.6g} to {max(optima):.6g}")
    inside = np.array([covered(1000 + seed, 60, 300) for seed in tqdm(range(sets))])
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(law.coefficients, inside.mean(0), strict=True))
    print(f"{sets} sets with {NOISE:.0%} noise: inside their 95% intervals {inside.mean():.1%} ({shares})")


if __name__ == "__main__":
    main()
