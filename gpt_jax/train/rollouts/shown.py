"""Samples of a policy at an evaluation, from the best to the worst, to be read."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt_jax.storage import make_folder, only_warned, write_atomically
from gpt_jax.train.rollouts.writing import Written

SHOWN = 3  # of each group
NEW_LINE = " ⏎ "
GROUPS = ("best", "median", "worst")
_BORDER = re.compile(r"(?<!\\)\|")  # of cells


def write(workdir: Path, step: int, written: Written, total_N: np.ndarray) -> None:
    """samples/rollout-<step>.md."""
    known = np.flatnonzero(np.isfinite(total_N))
    order = known[np.argsort(-total_N[known], kind="stable")]
    middle = max(0, len(order) // 2 - SHOWN // 2)
    chosen = order[:SHOWN], order[middle : middle + SHOWN], order[-SHOWN:]
    lines = [f"# Step {step}", "", "| | reward | prompt | answer |", "|---|---:|---|---|"]
    for name, rows in zip(GROUPS, chosen, strict=True):
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
    return said.replace("|", "\\|").replace("\n", NEW_LINE)


@dataclass(frozen=True)
class Answer:
    """A line of the table: best, median or worst, and what it shows, as text."""

    kind: str
    reward: str
    prompt: str
    text: str

    @property
    def asked(self) -> str:
        """The prompt as it was, where it was a text."""
        return self.prompt.replace(NEW_LINE, "\n")


def read(path: Path) -> list[Answer]:
    """What ``write`` has written; a file that others have edited is read as far as it has such lines."""
    lines = path.read_bytes().decode(errors="replace").split("\n")
    cells = [[cell[1:-1].replace("\\|", "|") for cell in _BORDER.split(line)[1:-1]] for line in lines]
    return [Answer(*row) for row in cells if len(row) == 4 and row[0] in GROUPS]
