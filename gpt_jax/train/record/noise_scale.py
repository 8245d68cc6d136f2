"""The gradient noise scale along a run, from its metrics (McCandlish et al. 2018)."""

from pathlib import Path

import numpy as np

from gpt_jax.train.record.metrics import read


def noise_scale(directory: Path, window: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the simple noise scale in tokens, or what else the objective counts, by means over ``window`` records of
    metrics.jsonl; nan where the noise exceeds the signal. Empty for a run without accumulation."""
    rows = [row for row in read(directory) if "train/noise_trace" in row]
    ends = range(window, len(rows) + 1, window)
    found = []
    for end in ends:
        part = rows[end - window : end]
        trace, signal = (np.mean([row[f"train/noise_{name}"] for row in part]) for name in ("trace", "signal"))
        found.append((part[-1]["step"], trace / signal if signal > 0 else np.nan))
    return np.array([step for step, _ in found], int), np.array([value for _, value in found])
