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
from gpt_jax.data.rendering import Encoded, Writer, dialogue, template_of
from gpt_jax.data.templates import Message
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.errors import UserError
from gpt_jax.sample.platform import bucket
from gpt_jax.train.forward import ModelForward
from gpt_jax.train.objectives.classify import Classify
from gpt_jax.train.objectives.reward import Reward, scores
from gpt_jax.train.run import ReadRun
from gpt_jax.train.step import read_params

AT_ONCE = 8  # rows of the whole context, and more of shorter ones

Prompt = str | Sequence[Message]


@dataclass(frozen=True, eq=False)
class Head:
    """The head of a run, with the model that it reads.

    Attributes:
      step: of the checkpoint.
      trained: what the run trains (``read_params``).
    """

    run: ReadRun
    step: int
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
        encoded, context = self._answered([(prompt, completion) for completion in completions])
        if (longest := max(map(_tokens, encoded), default=0)) > context:
            raise UserError(
                f"a prompt with its completion has {longest} tokens", where="reward", allowed=f"up to {context}"
            )
        return self._scores(encoded)

    def rewards(self, pairs: Sequence[tuple[Prompt, Prompt]]) -> list[float | None]:
        """The score of each completion of its own prompt; None where both together do not fit into the context.

        Args:
          pairs: prompts and their completions.

        Raises:
          UserError: the run has no such head.
        """
        encoded, context = self._answered(pairs)
        fitting = [i for i, found in enumerate(encoded) if _tokens(found) <= context]
        rewards: list[float | None] = [None] * len(encoded)
        for i, score in zip(fitting, self._scores([encoded[i] for i in fitting]), strict=True):
            rewards[i] = score
        return rewards

    def _answered(self, pairs: Sequence[tuple[Prompt, Prompt]]) -> tuple[list[Encoded], int]:
        """Completions after their prompts, and the tokens that fit into the context."""
        self._objective(Reward, "reward")
        side = self._side([])
        written = side.writer.write([dialogue(*pair) for pair in pairs], place="completion {}".format)
        return [read_to_the_end(found) for found in written], side.context

    def _scores(self, encoded: Sequence[Encoded]) -> list[float]:
        """Each is read in the shortest row that it fits into, of few lengths."""
        whole = self.run.config.model.context
        lengths = np.array([min(bucket(_tokens(found)), whole) for found in encoded], int)
        score_N = np.zeros(len(encoded))
        for length in np.unique(lengths):
            taken = np.flatnonzero(lengths == length)
            rows = [[[int(i)]] for i in taken]
            windows = ExampleWindows(encoded, rows, int(length), single=False, columns={})
            score_N[taken] = self._over(windows, AT_ONCE * (whole // length))[:, 0]
        return score_N.tolist()

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

    def _over(self, windows: ExampleWindows, most: int = AT_ONCE) -> np.ndarray:
        """What the head says of all windows, [N, …], ``most`` at a time."""
        found = []
        shards = self.run.program.recipe.split.shards
        rows = -(-(AT_ONCE if windows.count <= AT_ONCE else most) // shards) * shards
        with jax.set_mesh(self.run.mesh):
            for first in range(0, windows.count, rows):
                window_B = np.minimum(np.arange(first, first + rows), windows.count - 1)
                batch = windows.gather(window_B, np.zeros_like(window_B))
                found.append(self._said(self.trained, self.run.fixed, batch))
        return np.concatenate(jax.device_get(found))[: windows.count]

    @functools.cached_property
    def _said(self) -> Callable[..., jax.Array]:
        recipe = self.run.program.recipe
        say = recipe.objective.probabilities if isinstance(recipe.objective, Classify) else scores
        return jax.jit(lambda trained, fixed, batch: say(ModelForward.of(recipe, trained, fixed), batch))


def _tokens(found: Encoded) -> int:
    """Of the row that it is read in."""
    return len(found.ids) - 1


def head_of(run: ReadRun, step: int | None, tokenizer: Tokenizer | None) -> Head:
    """The head of a run that is read, after a step; the newest if none is named.

    Raises:
      UserError: its tokens are not text.
    """
    if tokenizer is None:
        raise UserError("a head reads text, and the tokens of this run are none", where=str(run.workdir))
    step, state, _ = run.load(step)
    return Head(run, step, read_params(state), tokenizer)
