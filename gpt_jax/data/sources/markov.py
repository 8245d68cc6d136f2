"""A random Markov chain, whose lowest possible loss is known exactly."""

from typing import Annotated

import numpy as np

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.tasks import TABLE_STREAM, Task, generator, need
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Seed
from gpt_jax.registry import register


@register("data.sources", "markov")
def markov(
    config: Config,
    *,
    states: Annotated[int, Limits(1, 1024)] = 16,
    concentration: Annotated[float, Limits(1e-6, 1e9)] = 0.5,
    moves: tuple = (),
    seed: Seed = 0,
) -> Task:
    """First-order chain with rows drawn from a symmetric Dirichlet(``concentration``); windows start in equilibrium.

    ``moves``, a tuple of rows, gives the probabilities instead of drawing them. ``facts["entropy_rate"]`` is
    sum_i pi_i H(P_i) in nats per token: the expected loss of the true chain at every position, which no model beats
    (Cover & Thomas, Elements of Information Theory, theorem 4.2.4); ``facts["unigram_entropy"]`` is H(pi).
    """
    states = len(moves) or states
    need("states", states, 2, "one state has nothing to predict")
    context = config.model.context
    # The floor keeps every move possible, so that the chain has one equilibrium whatever the concentration.
    drawn_VV = generator(seed, TABLE_STREAM).dirichlet(np.full(states, concentration), size=states)
    moves_VV = np.maximum(_given(moves) if moves else drawn_VV, 1e-6)
    moves_VV /= moves_VV.sum(1, keepdims=True)
    equilibrium_V = equilibrium(moves_VV)
    cumulative_VV, first_V = moves_VV.cumsum(1)[:, :-1], equilibrium_V.cumsum()[:-1]

    def fill(stream: int, windows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        uniform = [generator(seed, stream, i).random(context + 1) for i in windows_B]
        uniform_BT = np.array(uniform).reshape(len(windows_B), context + 1)
        tokens_BT = np.empty(uniform_BT.shape, np.int32)
        tokens_BT[:, 0] = np.searchsorted(first_V, uniform_BT[:, 0], side="right")
        for t in range(1, context + 1):
            tokens_BT[:, t] = (cumulative_VV[tokens_BT[:, t - 1]] <= uniform_BT[:, t, None]).sum(1)
        return tokens_BT, np.ones((len(windows_B), context), np.float32)

    facts = {
        "entropy_rate": float(-(equilibrium_V[:, None] * moves_VV * np.log(moves_VV)).sum()),
        "unigram_entropy": float(-(equilibrium_V * np.log(equilibrium_V)).sum()),
    }
    digest = cache.digest("markov", states, float(concentration), seed, context, *([repr(moves)] if moves else []))
    return Task(states, context, fill, digest, facts=facts)


def _given(moves: tuple) -> np.ndarray:
    try:
        rows = [list(map(float, row)) for row in moves]
    except (TypeError, ValueError):
        rows = [[]]
    if any(len(row) != len(rows) or not min(row) >= 0 or not abs(sum(row) - 1) <= 1e-6 for row in rows):
        raise UserError(
            f"moves = {moves} are not the rows of a chain",
            where="config.data.source",
            allowed="as many probabilities a row as there are rows, with the sum 1",
        )
    return np.array(rows)


def equilibrium(moves_VV: np.ndarray) -> np.ndarray:
    """pi [V] with pi P = pi and sum 1, for a chain that can reach every state from every other."""
    states = len(moves_VV)
    equations = np.concatenate([moves_VV.T - np.eye(states), np.ones((1, states))])
    return np.linalg.lstsq(equations, np.append(np.zeros(states), 1.0), rcond=None)[0]
