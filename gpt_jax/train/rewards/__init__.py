"""What a completion is worth: one file per reward, each a function ``name(**arguments) -> Reward``, or ``name(config,
**arguments)`` where it reads the settings of the run. One that reads another run takes ``pin`` after those, and makes a
``ReadsRun``.

``tune.reward`` names one, or several with weights: ``((1.0, "countdown"), (0.1, "ended"))``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from gpt_jax.data.examples import Row
from gpt_jax.judge.verifiers import Verifier
from gpt_jax.train.starting.fixed_models import Held

WHERE = "config.tune.reward"


@dataclass(frozen=True)
class Completion:
    """An answer of the policy.

    Attributes:
      row: that the prompt is from, with all of its fields.
      text: of the answer, without the token that ends it.
      ids: its tokens, with that one.
      ended: whether the policy ended it, or its length did.
    """

    row: Row
    text: str
    ids: Sequence[int]
    ended: bool


class Reward(Protocol):
    def __call__(self, completions: Sequence[Completion]) -> Sequence[float | None]:
        """The reward of each; None where there is none, which leaves the row out of its group and of the loss."""
        ...


@runtime_checkable
class ReadsRun(Reward, Protocol):
    """A reward that another run gives.

    Attributes:
      held: the checkpoint that it reads.
    """

    held: Held


def verified(verifier: Verifier) -> Reward:
    """The reward that a verifier's verdicts are."""
    return lambda completions: verifier([(completion.row, completion.text) for completion in completions])
