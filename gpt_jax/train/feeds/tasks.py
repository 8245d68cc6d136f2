"""The tasks that a run is asked at each of its evaluations: ``eval.tasks``."""

from collections.abc import Callable
from dataclasses import dataclass

import jax

from gpt_jax.errors import UserError
from gpt_jax.judge.evaluate import answers, values
from gpt_jax.judge.opened import Opened, open_tasks
from gpt_jax.judge.prompting import Judged, Prompting, writer_of
from gpt_jax.sample.decode import Decoder
from gpt_jax.train.run import Run
from gpt_jax.train.step import State

WHERE = "config.eval.tasks"


@dataclass(frozen=True)
class Judging:
    """A run with its tasks. What they say of a state depends on that state alone."""

    run: Run
    tasks: tuple[Opened, ...]

    @staticmethod
    def of(run: Run) -> "Judging":
        """
        Raises:
          UserError: a task cannot be asked of this run.
        """
        config = run.config
        if not config.eval.tasks:
            return Judging(run, ())
        if jax.process_count() > 1:
            raise UserError(
                "tasks are asked by one process",
                where=WHERE,
                fix="leave them out, and ask the trained run: launch.py eval --tasks=…",
            )
        writer, tasks = writer_of(config, run.data.tokenizer), open_tasks(config.eval.tasks, config)
        for task in tasks:
            Prompting(writer, config.model.context, task.task.asking).fitting(task)
        return Judging(run, tuple(tasks))

    def evaluate(self, state: State, stop: Callable[[], bool]) -> dict[str, float] | None:
        """The figures of all tasks, as arithmetic/correct; None once ``stop`` returns true."""
        if not self.tasks:
            return {}
        config = self.run.config
        judged = Judged.of(config, Decoder(config.model, self.run.params(state)), self.run.data.tokenizer)
        found: dict[str, float] = {}
        for task in self.tasks:
            given = answers(task, judged, stop)
            if given is None:
                return None
            found |= {f"{task.name}/{name}": value for name, value in values(task, given).items()}
        return found
