"""IsoFLOP ladders: sizes at equal compute as the arms of a sweep, and its runs as points of a scaling law."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.model import flops
from gpt_jax.study.scaling.compute_optimal import FLOPS_PER_PARAM_AND_TOKEN
from gpt_jax.study.scaling.table import RunTable
from gpt_jax.study.sweep.arms import Arms, Overrides
from gpt_jax.study.sweep.finished_runs import config_of
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.sweep import resolve
from gpt_jax.train.record.metrics import read_summary

COUNTS = ("total", "non_embedding", "matmul")  # fields of flops.Parameters


def isoflop(base: Any, sizes: Mapping[str, Overrides], budgets: Sequence[float], count: str = "total") -> Arms:
    """Every size with the number of steps at which 6 params tokens = each budget.

    Args:
      base: the shared settings; ``model.vocab`` has to be set, so that parameters can be counted.
      sizes: name -> knobs. With ``model.init = "mup(...)"`` in the base, one learning rate serves all.
      count: which parameters count, a field of ``flops.Parameters``.

    Raises:
      UserError: no such count, or a size would be trained for fewer than ten steps.
    """
    _check(count)
    found: Arms = {}
    for budget in budgets:
        for name, overrides in sizes.items():
            config = resolve(base, name, overrides)
            steps = round(budget / (FLOPS_PER_PARAM_AND_TOKEN * params(config, count) * _tokens_a_step(config)))
            if steps < 10:
                raise UserError(
                    f"{name} has {steps} steps at {budget:.3g} FLOPs",
                    where="ladder",
                    allowed="10 steps or more",
                    fix="leave the size out of this budget, or make train.batch smaller",
                )
            timing = {"train.steps": steps, "train.eval_every": steps, "train.save_every": steps}
            found[f"{budget:.3g} FLOPs, {name}"] = {**overrides, **timing}
    return found


def points(results: SweepResults, count: str = "total") -> RunTable:
    """The finished runs as points: params by ``count``, tokens, loss, and 6 params tokens as FLOPs. Runs that are not done,
    or whose loss is not finite, are listed as excluded."""
    _check(count)
    names, rows, excluded = [], [], []
    for id, entry in results.runs.items():
        summary = read_summary(results.directory(id))
        loss = float(summary.get("final", {}).get(results.metric, np.nan))
        if results.status(id) != "done" or not np.isfinite(loss):
            excluded.append(f"{entry.name}: {results.status(id)}, {results.metric} {loss:g}")
            continue
        size, tokens = params(config_of(results.directory(id)), count), summary["tokens"]
        names.append(entry.name)
        rows.append((size, tokens, loss, FLOPS_PER_PARAM_AND_TOKEN * size * tokens))
    columns = np.array(rows, float).reshape(-1, 4).T
    return RunTable(
        tuple(names), dict(zip(("params", "tokens", "loss", "flops"), columns, strict=True)), tuple(excluded)
    )


def params(config: Config, count: str) -> int:
    return getattr(flops.parameters(config.model), count)


def _tokens_a_step(config: Config) -> int:
    return config.train.batch * config.model.context


def _check(count: str) -> None:
    if count not in COUNTS:
        raise UserError(f"parameters cannot be counted by {count!r}", allowed=", ".join(COUNTS))
