"""What the policy, its critic and the reference make of rows, by the forward pass that training differentiates."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from gpt_jax.mesh import mesh as meshes
from gpt_jax.model import gpt
from gpt_jax.train.adapters.none import NoAdapter
from gpt_jax.train.forward import FixedModel, ModelForward, Recipe
from gpt_jax.train.objectives.policy import Policy
from gpt_jax.train.run import Run

Arrays = dict[str, np.ndarray]


class Scorer:
    """Scores rows, as many at a time as a step does.

    Args:
      reference: None where nothing is compared.
    """

    def __init__(self, run: Run, policy: Policy, reference: FixedModel | None):
        self._run, self._policy, self._reference = run, policy, reference
        settings, shards = run.config.train, meshes.batch_shards(run.mesh)
        self._rows = shards * max(1, settings.batch // (settings.accumulate * shards))
        self._everywhere = NamedSharding(run.mesh, PartitionSpec())

    def policy(self, trained: dict, rows: Arrays) -> Arrays:
        """[N, T]: "old" at the temperature, "raw" before it, "entropy", and with a critic "value"."""
        return self._over(functools.partial(self._of_policy, trained, self._run.fixed), rows)

    def reference(self, rows: Arrays) -> np.ndarray:
        """[N, T], at the temperature."""
        assert self._reference is not None
        return self._over(functools.partial(self._of_reference, self._reference.params), rows)["reference"]

    @functools.cached_property
    def _of_policy(self) -> Callable:
        recipe, policy = self._run.program.recipe, self._policy

        def score(trained, fixed, batch):
            forward = ModelForward.of(recipe, trained, fixed)
            states_BTD = forward.states(batch)
            log_prob_BT, entropy_BT = forward.policy(batch, states_BTD)
            found = {"old": log_prob_BT, "entropy": entropy_BT, "raw": forward.log_probs(batch, states_BTD)}
            return {**found, "value": policy.values(forward, states_BTD)} if policy.critic else found

        return jax.jit(score, out_shardings=self._everywhere)

    @functools.cached_property
    def _of_reference(self) -> Callable:
        own, fixed = self._run.program.recipe, self._reference
        assert fixed is not None
        recipe = Recipe(
            dataclasses.replace(own.config, model=fixed.model),
            gpt.graphdef(fixed.model),
            own.objective,
            NoAdapter(),
            own.split,
        )

        def score(params, batch):
            forward = ModelForward.of(recipe, params, {})
            return {"reference": forward.policy(batch, forward.states(batch))[0]}

        return jax.jit(score, out_shardings=self._everywhere)

    def _over(self, score: Callable, rows: Arrays) -> Arrays:
        """[N, T] of all rows; the last call is filled up with the last row."""
        count = len(rows["tokens"])
        found: list[Arrays] = []
        with jax.set_mesh(self._run.mesh):
            for begin in range(0, count, self._rows):
                taken = np.minimum(np.arange(begin, begin + self._rows), count - 1)
                batch = {name: rows[name][taken] for name in ("tokens", "targets")}
                found.append(score(meshes.put_batch(batch, self._run.mesh)))
        return {name: np.concatenate([np.asarray(f[name]) for f in found])[:count] for name in found[0]}
