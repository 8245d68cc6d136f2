"""Ladders: arms of equal compute, and runs as the points of a law."""

import pytest

import launch
from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.storage import write_json
from gpt_jax.study.report import page
from gpt_jax.study.scaling import ladder, table
from gpt_jax.study.sweep import Sweep, cross, grid
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


def test_the_table_of_a_sweep_can_be_fitted(tmp_path, capsys):
    arms = cross(SIZES, grid({"train.steps": (9, 90, 900)}))
    sweep = Sweep(settings(), arms, seeds=(0,), baseline=None)
    planned = sweeps.jobs(sweep)
    results = SweepResults.plan(tmp_path, sweep, planned, tmp_path / "mine.py")
    for job in planned[:-1]:
        directory = results.directory(job.id)
        directory.mkdir(parents=True)
        write_json(directory / "config.json", job.config.to_dict())
        tokens, size = 1000 * job.config.train.steps, ladder.params(job.config, "total")
        facts = {
            "status": "done",
            "steps": 1,
            "tokens": tokens,
            "flops": 7.0 * size * tokens,
            "seconds": 1.0,
            "best": {},
        }
        loss = 1 + 30 / size**0.4 + 20 / tokens**0.3
        write_summary(
            directory, {**facts, "final": {"valid/loss": loss}} | ({"params": size} if job != planned[0] else {})
        )
    page.write(results)
    from_csv, from_sweep = table.read(tmp_path / "runs.csv"), table.of_sweep(tmp_path)
    assert from_csv.names == from_sweep.names and len(from_csv) == 8
    assert from_csv.excluded == ("width 64, steps=900, seed 0: its status is new",)
    for column in ("params", "tokens", "loss", "flops"):
        assert from_csv[column].tolist() == from_sweep[column].tolist()
    assert from_csv["loss"][0] == 1 + 30 / from_csv["params"][0] ** 0.4 + 20 / 9000**0.3
    assert from_csv["flops"][0] == 7 * from_csv["params"][0] * 9000
    for source in (f"--runs={tmp_path / 'runs.csv'}", f"--workdir={tmp_path}"):
        assert launch.main(["fit", source, "--resamples=20"]) == 0
        said = capsys.readouterr().out
        assert "fitted to 8 runs" in said and "excluded: width 64, steps=900, seed 0" in said
