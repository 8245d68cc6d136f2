"""Policies that are a table, of which every completion is known: gradients are expectations, with no sampling.

A completion ends with token 0, or at the greatest length. A policy is a softmax of a row of logits for each prefix.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.train.advantages import Estimated, Scores
from tests.train.policy_cases import Given, built


@dataclass(frozen=True)
class World:
    """All completions of at most ``longest`` tokens out of ``vocab``, and what each is worth."""

    vocab: int = 3
    longest: int = 3

    @functools.cached_property
    def prefixes(self) -> list[tuple[int, ...]]:
        return [p for n in range(self.longest) for p in itertools.product(range(1, self.vocab), repeat=n)]

    @functools.cached_property
    def completions(self) -> list[tuple[int, ...]]:
        full = [(*p, token) for p in self.prefixes for token in range(self.vocab)]
        return [y for y in full if y[-1] == 0 or len(y) == self.longest]

    @functools.cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[Y, T]: the row of the table that each token is drawn from, the token, and whether there is one."""
        state_YT, target_YT, weights_YT = np.zeros((3, len(self.completions), self.longest), int)
        for y, tokens in enumerate(self.completions):
            for t, token in enumerate(tokens):
                state_YT[y, t], target_YT[y, t], weights_YT[y, t] = self.prefixes.index(tokens[:t]), token, 1
        return state_YT, target_YT, weights_YT.astype(float)

    def drawn(self, seed: int) -> np.ndarray:
        """A table."""
        return np.random.default_rng(seed).normal(size=(len(self.prefixes), self.vocab))

    @functools.cached_property
    def reward_Y(self) -> np.ndarray:
        return np.random.default_rng(7).normal(size=len(self.completions))

    def tokens(self, table_SV) -> jax.Array:
        """log-probabilities of the tokens, 0 where there is none, [Y, T]."""
        state_YT, target_YT, weights_YT = self.arrays
        return jax.nn.log_softmax(jnp.asarray(table_SV))[state_YT, target_YT] * weights_YT

    def log_probs(self, table_SV) -> jax.Array:
        return self.tokens(table_SV).sum(1)

    def worth(self, table_SV, reference_SV, kl: float) -> jax.Array:
        """The expected reward less kl times the divergence KL(policy || reference) of completions."""
        log_Y = self.log_probs(table_SV)
        return (jnp.exp(log_Y) * (self.reward_Y - kl * (log_Y - self.log_probs(reference_SV)))).sum()

    def scores(self, table_SV, reference_SV, rows_N: np.ndarray, samples: int, kl: float, value_S=None) -> Scores:
        state_YT, _, weights_YT = self.arrays
        penalty_YT = -kl * np.asarray(self.tokens(table_SV) - self.tokens(reference_SV))
        value_YT = np.zeros_like(weights_YT) if value_S is None else value_S[state_YT] * weights_YT
        real_N = np.ones(len(rows_N), bool)
        of_rows = (a[rows_N] for a in (weights_YT, penalty_YT, value_YT))
        return Scores(self.reward_Y[rows_N], real_N, *of_rows, samples)

    def gradient(
        self, call: str, old_SV, reference_SV, groups_PG, share_P, estimated: Estimated, counted: bool = True
    ) -> np.ndarray:
        """Of the expected loss of a batch that is one group, by the table that wrote it.

        Args:
          share_P: how likely each group is.
          counted: the loss is divided by what the objective counts.
        """
        shape = (*groups_PG.shape, self.longest)
        given = [np.zeros(shape) if a is None else a for a in (estimated.advantage_NT, estimated.returns_NT)]
        given = [jnp.asarray(a).reshape(shape) for a in given]
        tables = jnp.asarray(old_SV), jnp.asarray(reference_SV)
        return np.asarray(_compiled(self, call, counted)(*tables, jnp.asarray(groups_PG), jnp.asarray(share_P), *given))


@functools.cache
def _compiled(world: World, call: str, counted: bool) -> Callable:
    objective, (state_YT, target_YT, weights_YT) = built(call), map(jnp.asarray, world.arrays)

    def gradient(old_SV, reference_SV, groups_PG, share_P, advantage_PGT, returns_PGT):
        old_YT, reference_YT = world.tokens(old_SV), world.tokens(reference_SV)

        def loss(table_SV, rows_G, advantage_GT, returns_GT):
            batch = {"targets": target_YT[rows_G], "weights": weights_YT[rows_G], "limit": jnp.ones(len(rows_G))}
            batch |= {"logits": table_SV[state_YT[rows_G]], "states": jnp.zeros((*advantage_GT.shape, 1))}
            batch |= {"advantage": advantage_GT, "returns": returns_GT, "value": jnp.zeros_like(returns_GT)}
            batch |= {"old": old_YT[rows_G], "reference": reference_YT[rows_G]}
            forward = Given(temperature=1.0)
            forward.coupled = objective.coupled(forward, batch)
            total = objective.sums(forward, batch)["objective"]
            return total / objective.count(batch) if counted else total

        def expected(table_SV):
            return (share_P * jax.vmap(functools.partial(loss, table_SV))(groups_PG, advantage_PGT, returns_PGT)).sum()

        return jax.grad(expected)(old_SV)

    return jax.jit(gradient)
