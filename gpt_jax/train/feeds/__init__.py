"""What batch k of a run is, given its state: the data's (``corpus``), or what the policy writes (``rollout``); and what its
evaluations say, of a feed and of ``tasks``."""

from collections.abc import Callable
from typing import Any, Protocol

from gpt_jax.errors import UserError
from gpt_jax.train.objectives import Batch
from gpt_jax.train.objectives.policy import Policy
from gpt_jax.train.run import Run
from gpt_jax.train.starting.fixed_models import Held
from gpt_jax.train.step import State


class Feed(Protocol):
    """See the module.

    Attributes:
      every: steps between the states that a run may be evaluated, saved and stopped at: nothing but such a state is needed
        to go on as if it had not been.
      waits: whether a batch depends on the state, so that the step before has to be done.
    """

    @property
    def every(self) -> int: ...

    @property
    def waits(self) -> bool: ...

    def batch(self, k: int, state: State) -> tuple[Batch, dict[str, float]]:
        """The arrays of batch k on the mesh, and what else is reported as a metric of its step."""
        ...

    def evaluate(self, state: State, step: int | None, stop: Callable[[], bool]) -> dict[str, float] | None:
        """What is reported as valid/… of a state; None once ``stop`` returns true.

        Args:
          step: its updates, for what the run directory keeps of it; None: nothing is written.
        """
        ...

    def covered(self) -> str:
        """What of the validation side an evaluation reads, in words."""
        ...

    def notes(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the state, for ``feed_of``; {} where that is nothing."""
        ...


def read_beside(run: Run) -> list[Held]:
    """The models that rewards read.

    Raises:
      UserError: there can be no feed; nothing has been written.
    """
    if not isinstance(run.program.recipe.objective, Policy):
        return []
    from gpt_jax.train.rollouts.rewarding import Rewards

    if run.data.tokenizer is None:
        raise UserError("rewards read text, and the tokens of these data are none", where="config.data.source")
    return Rewards.of(run.config, run.workdir).held


def feed_of(run: Run, notes: dict[str, Any]) -> Feed:
    """The feed of a run that begins, or goes on with a checkpoint's ``notes``.

    Raises:
      UserError: settings of rollouts do not go together, or the reference cannot be read.
    """
    if isinstance(run.program.recipe.objective, Policy):
        from gpt_jax.train.feeds.rollout import Rollouts

        return Rollouts.open(run, notes)
    from gpt_jax.train.feeds.corpus import Corpus

    return Corpus(run)
