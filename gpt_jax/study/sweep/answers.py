"""What finished runs answer to prompts and what that is worth. A run of any objective is read as a policy."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from gpt_jax.study.sweep.finished_runs import config_of
from gpt_jax.train.feeds.rollout import Rollouts
from gpt_jax.train.objectives.policy import Policy
from gpt_jax.train.run import open_run
from gpt_jax.train.step import State, objective_of


def drawn(directory: Path, *, prompts: int, samples: int, seed: int = 0, **changes: Any) -> dict[str, np.ndarray]:
    """Rewards of several answers to each of the first validation prompts, by name, float64 [prompts, samples]; "reward" is
    their weighted sum, "ended" whether the policy ended the answer, "length" its tokens.

    Args:
      changes: section__knob=value, such as tune__reward="countdown".

    Raises:
      UserError: the settings do not make a policy of the run.
    """
    rollouts, state = _opened(directory, changes)
    with jax.set_mesh(rollouts.run.mesh):
        written, found = rollouts.answers(state, prompts, samples, seed)
    found["ended"] = np.array([completion.ended for completion in written.completions], float)
    found["length"] = np.array([len(completion.ids) for completion in written.completions], float)
    return {name: values.reshape(-1, samples) for name, values in found.items()}


def measured(directory: Path, reference: Path, **changes: Any) -> dict[str, float]:
    """Metrics of one answer to each validation prompt, as a policy reports them at an evaluation: the reward, its parts, and
    "kl", the divergence from the reference in nats a completion.

    Args:
      reference: a run.
      changes: as of ``drawn``.
    """
    rollouts, state = _opened(directory, {"tune__reference": str(reference), **changes})
    with jax.set_mesh(rollouts.run.mesh):
        found = rollouts.evaluate(state, None, lambda: False)
    assert found is not None
    return found


def _opened(directory: Path, changes: dict[str, Any]) -> tuple[Rollouts, State]:
    policy = isinstance(objective_of(config_of(directory)), Policy)
    changes = {**({} if policy else {"tune__objective": "grpo(kl=0.0)", "tune__start": ""}), **changes}
    run = open_run(config_of(directory, **changes), directory)
    _, state, _ = run.load()
    return Rollouts.open(run, {}), state
