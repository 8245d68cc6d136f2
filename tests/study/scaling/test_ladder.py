"""Ladders: arms of equal compute, and runs as the points of a law."""

import pytest

from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.storage import write_json
from gpt_jax.study.scaling import ladder
from gpt_jax.study.sweep import Sweep
from gpt_jax.study.sweep import sweep as sweeps
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.train.record.metrics import write_summary

SIZES = {f"width {w}": {"model.width": w, "model.heads": 2} for w in (16, 32, 64)}


def settings():
    c = base.get_config()
    c.model.update(layers=2, context=16, vocab=40, tied=False)
    c.data.update(source="markov(states=40)", tokenizer="none")
    return c


@pytest.mark.parametrize("count", ladder.COUNTS)
def test_every_size_of_a_budget_costs_as_much(count):
    arms = ladder.isoflop(settings(), SIZES, (1e10, 1e11), count)
    assert len(arms) == 6
    for name, overrides in arms.items():
        config = sweeps.resolve(settings(), name, overrides)
        tokens = config.train.steps * config.train.batch * 16
        assert 6 * ladder.params(config, count) * tokens == pytest.approx(float(name.split(" FLOPs")[0]), rel=0.02)
        assert config.train.eval_every == config.train.save_every == config.train.steps


def test_what_cannot_be_trained_so_is_refused():
    with pytest.raises(UserError, match="steps at 1e.06 FLOPs"):
        ladder.isoflop(settings(), SIZES, (1e6,))
    with pytest.raises(UserError, match="counted by 'all'"):
        ladder.isoflop(settings(), SIZES, (1e10,), "all")


def test_runs_are_points_and_what_is_missing_is_named(tmp_path):
    sweep = Sweep(settings(), ladder.isoflop(settings(), SIZES, (1e10,)), seeds=(0,), baseline=None)
    planned = sweeps.jobs(sweep)
    results = SweepResults.plan(tmp_path, sweep, planned, tmp_path / "mine.py")
    losses = (3.0, float("nan"), None)
    for job, loss in zip(planned, losses, strict=True):
        if loss is None:
            continue
        directory = results.directory(job.id)
        directory.mkdir(parents=True)
        write_json(directory / "config.json", job.config.to_dict())
        facts = {"status": "done", "steps": 1, "tokens": 1000, "flops": 1.0, "seconds": 1.0, "best": {}}
        write_summary(directory, {**facts, "final": {"valid/loss": loss}})
    found = ladder.points(results, "matmul")
    size = ladder.params(planned[0].config, "matmul")
    assert found.names == ("1e+10 FLOPs, width 16, seed 0",) and len(found.excluded) == 2
    assert found["params"][0] == size and found["flops"][0] == 6 * size * 1000 and found["loss"][0] == 3.0
    assert "nan" in found.excluded[0] and "new" in found.excluded[1]
