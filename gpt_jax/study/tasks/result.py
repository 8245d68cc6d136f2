"""What a task came to: of one model, or of two on the same problems."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpt_jax.config import Config
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.judge.bootstrap import LEVEL, Figure
from gpt_jax.judge.evaluate import Answers
from gpt_jax.judge.opened import Opened
from gpt_jax.study.compare.verdicts import Rows


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model.

    Attributes:
      name: that it is shown by.
    """

    name: str
    config: Config
    params: dict[str, Any]
    tokenizer: Tokenizer | None
    step: int


@dataclass(frozen=True)
class Result:
    """A task that was answered.

    Attributes:
      other: what another model said, and ``differences`` by how much the first one's figures are higher.
    """

    opened: Opened
    answers: Answers
    figures: dict[str, Figure]
    details: dict[str, Any]
    other: Answers | None = None
    other_figures: dict[str, Figure] = dataclasses.field(default_factory=dict)
    differences: dict[str, Figure] = dataclasses.field(default_factory=dict)

    @property
    def left_out(self) -> int:
        return len(self.opened.problems) - len(self.answers.numbers)

    def rows(self) -> Rows:
        """A row a figure."""
        lines = []
        for name, figure in self.figures.items():
            cells = [self.opened.name, name, str(figure), str(figure.problems)]
            if self.other is not None:
                cells[3:3] = [str(self.other_figures[name]), str(self.differences[name])]
            lines.append(cells)
        return lines

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        asked = dataclasses.asdict(self.opened.task.asking)
        values = {
            **{"task": self.opened.call, "source": self.opened.source, "asking": asked},
            **{"problems": len(self.answers.numbers), "left_out": self.left_out},
            "figures": {name: dataclasses.asdict(figure) for name, figure in self.figures.items()},
            "details": self.details,
        }
        if self.other is None:
            return values
        compared = {"other": self.other_figures, "differences": self.differences}
        return values | {
            kind: {name: dataclasses.asdict(figure) for name, figure in figures.items()}
            for kind, figures in compared.items()
        }


def table(results: Sequence[Result], models: Sequence[Model]) -> Rows:
    """A head and a row a figure."""
    interval = f"{LEVEL:.0%} interval"
    heads = [f"{one.name} ({interval})" for one in models]
    difference = [f"difference ({interval})"] if len(models) > 1 else []
    return [["task", "figure", *heads, *difference, "problems"], *(row for result in results for row in result.rows())]
