"""How attention is computed where every device has a part of each text: a file of this folder each."""

import dataclasses
from collections.abc import Callable

from gpt_jax import registry
from gpt_jax.config import MeshConfig
from gpt_jax.errors import UserError
from gpt_jax.model.attend import EVERYTHING, FEATURES

AXIS = "context"
KIND = "mesh.context_strategy"
WHERE = f"config.{KIND}"


@dataclasses.dataclass(frozen=True)
class Strategy:
    """A way to compute attention where every device has a part of each text.

    Args:
      run: (parts, backend, spec, q_BNTH, k_BKTH, v_BKTJ, queries, extras, kept) -> y_BNTJ, of the parts that a device has;
        within a shard_map, where ``AXIS`` has ``parts`` devices. ``kept`` is what weights are multiplied with as dropout, or
        None.
      sent: (parts, queries, keys, size, again) -> bytes that a device sends for a layer of a step, of so many numbers of
        ``size`` bytes that it has of queries, and of keys whose heads divide; ``again``: forward passes that are repeated.
      can: features of ``attend.FEATURES``.
      backends: of ``model.attend`` that it may be combined with; empty = all.
      heads: whether each device computes whole texts of a part of the heads.
      reorders: whether tokens are dealt out so that all devices have as much to do.
    """

    name: str
    run: Callable
    sent: Callable[[int, float, float, int, int], float]
    can: frozenset[str] = EVERYTHING
    backends: tuple[str, ...] = ()
    heads: bool = False
    reorders: bool = False


def strategy_of(config: MeshConfig) -> Strategy:
    """What ``mesh.context_strategy`` names."""
    return registry.build(KIND, config.context_strategy, where=WHERE)


def check_features(strategy: Strategy, features: frozenset[str]) -> None:
    """Refuses what a strategy cannot do.

    Raises:
      UserError: the message names it, and the strategies that can.
    """
    lacking = features - strategy.can
    if lacking:
        words = [FEATURES[name] for name in FEATURES if name in lacking] + sorted(lacking - FEATURES.keys())
        every = (registry.build(KIND, name) for name in registry.names(KIND))
        able = [other.name for other in every if features <= other.can]
        raise UserError(
            f"the context strategy {strategy.name!r} cannot do {', '.join(words)}",
            where=WHERE,
            allowed=", ".join(able) or f"none of them can; mesh.{AXIS}=1 can",
        )
