"""Samples of a policy at an evaluation, from the best to the worst, to be read."""

from pathlib import Path

import numpy as np

from gpt_jax.storage import make_folder, only_warned, write_atomically
from gpt_jax.train.rollouts.writing import Written

SHOWN = 3  # of the best, of those in the middle, and of the worst


def write(workdir: Path, step: int, written: Written, total_N: np.ndarray) -> None:
    """samples/rollout-<step>.md."""
    known = np.flatnonzero(np.isfinite(total_N))
    order = known[np.argsort(-total_N[known], kind="stable")]
    middle = max(0, len(order) // 2 - SHOWN // 2)
    groups = {"best": order[:SHOWN], "median": order[middle : middle + SHOWN], "worst": order[-SHOWN:]}
    lines = [f"# Step {step}", "", "| | reward | prompt | answer |", "|---|---:|---|---|"]
    for name, rows in groups.items():
        for n in rows:
            completion = written.completions[n]
            answer = _cell(completion.text) + ("" if completion.ended else " (cut)")
            lines.append(f"| {name} | {total_N[n]:.4g} | {_cell(completion.row['prompt'])} | {answer} |")
    with only_warned("the samples cannot be written"):
        path = workdir / "samples" / f"rollout-{step}.md"
        write_atomically(make_folder(path.parent) / path.name, "\n".join(lines) + "\n")


def _cell(text: object) -> str:
    said = (
        text
        if isinstance(text, str)
        else " / ".join(m["content"] for m in text)
        if isinstance(text, list)
        else str(text)
    )
    return said.replace("|", "\\|").replace("\n", " ⏎ ")
