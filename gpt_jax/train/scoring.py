"""What the head of a run says of texts: the classes of ``classify``, the rewards of ``reward``."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from gpt_jax import registry
from gpt_jax.data.example_windows import ExampleWindows
from gpt_jax.data.examples import Row
from gpt_jax.data.forms import Side
from gpt_jax.data.forms.pairs import read_to_the_end
from gpt_jax.data.rendering import Writer, dialogue, template_of
from gpt_jax.data.templates import Message
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.errors import UserError
from gpt_jax.train.forward import ModelForward
from gpt_jax.train.objectives.classify import Classify
from gpt_jax.train.objectives.reward import Reward, scores
from gpt_jax.train.run import ReadRun
from gpt_jax.train.step import read_params

AT_ONCE = 8  # rows

Prompt = str | Sequence[Message]


@dataclass(frozen=True, eq=False)
class Head:
    """The head of a run, with the model that it reads.

    Attributes:
      trained: what the run trains (``read_params``).
    """

    run: ReadRun
    trained: dict
    tokenizer: Tokenizer

    def classify(self, *rows: str | Row) -> list[dict[str, float]]:
        """The probabilities of the classes of each row, by their names; of a choice, of its options by number.

        Args:
          rows: texts, or rows without their class, such as {"texts": [a, b]} or {"prompt": …, "options": […]}.

        Raises:
          UserError: the run has no such head, or something is no such row.
        """
        objective = self._objective(Classify, "classify(classes=…)")
        found = [{"text": row} if isinstance(row, str) else row for row in rows]
        side = self._side([{**row, "class": 0} for row in found])
        windows = registry.build("data.forms", objective.form)(side).windows
        table = self._over(windows)
        sizes = [len(row["options"]) if objective.choice else len(objective.names) for row in found]
        return [
            {name: float(p) for name, p in zip(objective.names[:size], row, strict=False)}
            for size, row in zip(sizes, table, strict=True)
        ]

    def reward(self, prompt: Prompt, *completions: Prompt) -> list[float]:
        """The score of each completion of a prompt.

        Raises:
          UserError: the run has no such head, or a completion does not fit into the context.
        """
        self._objective(Reward, "reward")
        side = self._side([])
        encoded = side.writer.write(
            [dialogue(prompt, completion) for completion in completions], place="completion {}".format
        )
        encoded = [read_to_the_end(found) for found in encoded]
        if longest := max((len(found.ids) - 1 for found in encoded if len(found.ids) > side.context + 1), default=0):
            raise UserError(
                f"a prompt with its completion has {longest} tokens", where="reward", allowed=f"up to {side.context}"
            )
        rows = [[[i]] for i in range(len(encoded))]
        windows = ExampleWindows(encoded, rows, side.context, single=False, columns={})
        return [float(row[0]) for row in self._over(windows)]

    def _objective(self, kind: type, call: str) -> Any:
        objective = self.run.program.recipe.objective
        if not isinstance(objective, kind):
            raise UserError(
                f"this run was trained with {self.run.config.tune.objective}",
                where=str(self.run.workdir),
                fix=f"train one with tune.objective = {call}",
            )
        return objective

    def _side(self, rows: Sequence[Row]) -> Side:
        config = self.run.config
        return Side(rows, (), Writer(template_of(config), self.tokenizer), config.model.context, config.data.pack)

    def _over(self, windows: ExampleWindows) -> np.ndarray:
        """What the head says of all windows, [N, …]."""
        found = []
        with jax.set_mesh(self.run.mesh):
            for first in range(0, windows.count, AT_ONCE):
                window_B = np.minimum(np.arange(first, first + AT_ONCE), windows.count - 1)
                batch = windows.gather(window_B, np.zeros_like(window_B))
                found.append(self._said(self.trained, self.run.fixed, batch))
        return np.concatenate(jax.device_get(found))[: windows.count]

    @functools.cached_property
    def _said(self) -> Callable[..., jax.Array]:
        recipe = self.run.program.recipe
        say = recipe.objective.probabilities if isinstance(recipe.objective, Classify) else scores
        return jax.jit(lambda trained, fixed, batch: say(ModelForward.of(recipe, trained, fixed), batch))


def head_of(run: ReadRun, step: int, tokenizer: Tokenizer | None) -> Head:
    """The head of a run that is read, after a step.

    Raises:
      UserError: its tokens are not text.
    """
    if tokenizer is None:
        raise UserError("a head reads text, and the tokens of this run are none", where=str(run.workdir))
    return Head(run, read_params(run.load(step)[1]), tokenizer)
