"""Runs trained as one program: each comes to what it comes to alone."""

import json
import os
import signal

import jax
import numpy as np
import pytest

import launch
from gpt_jax.config import Config
from gpt_jax.errors import DONE, RESUMABLE, NonFiniteError, Stopped
from gpt_jax.study.sweep import Sweep, local, population, worker
from gpt_jax.study.sweep import sweep as sweeps
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.train import loop
from gpt_jax.train.checkpoint.checkpoints import Checkpoints
from gpt_jax.train.record.metrics import read, read_summary
from gpt_jax.train.record.recorder import Recorder
from tests.study.sweep.test_sweep import experiment, tiny

SETTINGS = dict(
    train__steps=12,
    train__batch=4,
    train__log_every=3,
    train__eval_every=4,
    train__eval_batches=2,
    train__save_every=4,
    train__tensorboard=False,
    optim__warmup=2,
    sample__prompts=(),
    mesh__data=1,
)
ARMS = {"slow": {"optim.lr": 1e-3}, "fast": {"optim.lr": 1e-2, "optim.clip": 0.1}}


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """As a worker has, where the tests have eight."""
    found = jax.devices
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(jax, "devices", lambda *backend: found(*backend)[:1])


def jobs(folder, seeds=(0, 1), **changes):
    planned = sweeps.jobs(Sweep(tiny(**SETTINGS | changes), ARMS, seeds=seeds))
    return [(job.config, folder / str(i)) for i, job in enumerate(planned)]


def numbers(workdir):
    """The records, without what tells of time."""
    rows = [{k: v for k, v in row.items() if k != "time" and not k.startswith("speed/")} for row in read(workdir)]
    return [row for row in rows if len(row) > 2]


def same(ours, theirs):
    """Whether records agree, up to the order of floating-point sums."""
    assert [list(row) for row in ours] == [list(row) for row in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=2e-5)
    return True


def test_every_run_comes_to_what_it_comes_to_alone(tmp_path):
    assert population.train(jobs(tmp_path / "together"), 0) == [None] * 4
    ends = set()
    for config, workdir in jobs(tmp_path / "alone"):
        loop.train(config, workdir)
        other = tmp_path / "together" / workdir.name
        assert same(numbers(other), numbers(workdir))
        assert read_summary(other)["status"] == "done" and (other / "figures" / "loss.png").exists()
        ends.add(numbers(other)[-1]["valid/loss"])
    assert len(ends) == 4
    starts = json.loads((tmp_path / "together" / "0" / "environment.json").read_text())["starts"]
    assert starts[0]["together"] == 4


def test_their_seconds_add_up_to_the_time_that_passed(tmp_path):
    import time

    begun = time.time()
    population.train(jobs(tmp_path), 0)
    passed = time.time() - begun
    own = sum(read_summary(workdir)["seconds"] for _, workdir in jobs(tmp_path))
    assert 0.3 * passed < own <= passed + 0.4


def test_stopped_together_they_go_on_to_the_same_bits(tmp_path, monkeypatch):
    population.train(jobs(tmp_path / "whole"), 0)
    queue = Recorder.queue

    def queue_and_stop(recorder, step, *rest):
        queue(recorder, step, *rest)
        if step == 6:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "queue", queue_and_stop)
        failures = population.train(jobs(tmp_path / "parts"), 0)
    assert all(isinstance(failure, Stopped) for failure in failures)
    steps = {population.newest_step(workdir) for _, workdir in jobs(tmp_path / "parts")}
    assert len(steps) == 1 and steps < {6, 7}
    assert population.train(jobs(tmp_path / "parts"), 0) == [None] * 4
    for _, workdir in jobs(tmp_path / "whole"):
        other = tmp_path / "parts" / workdir.name
        assert numbers(other) == numbers(workdir)
        assert (other / "checkpoints" / "12").exists()


@pytest.mark.slow
def test_a_run_at_another_step_is_not_trained_with_them(tmp_path):
    some = jobs(tmp_path)
    loop.train(*some[1], until=4)
    failures = population.train(some, 0)
    assert isinstance(failures[1], population.StepMismatch)
    assert [failures[i] for i in (0, 2, 3)] == [None] * 3
    assert population.newest_step(some[1][1]) == 4 and Checkpoints(some[0][1], 2, True).steps()[-1] == 12


def test_one_that_breaks_does_not_stop_the_others(tmp_path):
    arms = {"broken": {"optim.lr": 1e30, "optim.clip": 0.0}, **ARMS}
    planned = sweeps.jobs(Sweep(tiny(**SETTINGS), arms, seeds=(0,)))
    some = [(job.config, tmp_path / str(i)) for i, job in enumerate(planned)]
    failures = population.train(some, 0)
    assert isinstance(failures[0], NonFiniteError) and "first bad tensor" in str(failures[0])
    assert failures[1:] == [None, None]
    assert read_summary(some[0][1]) == {} and read_summary(some[1][1])["status"] == "done"


def orders(folder):
    planned = sweeps.jobs(Sweep(tiny(**SETTINGS), ARMS, seeds=(0, 1)))
    for job in planned:
        (folder / job.id).mkdir()
    return [worker.order_of(job, folder / job.id, measure=True) for job in planned]


@pytest.fixture
def own_output(capfd):
    """A worker turns the descriptors of its output away."""
    kept = [os.dup(number) for number in (1, 2)]
    yield
    for number, copy in enumerate(kept, start=1):
        os.dup2(copy, number)


@pytest.mark.slow
def test_a_worker_trains_parts_and_who_stands_elsewhere(tmp_path, monkeypatch, own_output):
    given = orders(tmp_path)
    monkeypatch.setattr(population, "best_size", lambda jobs: (3, "measured"))
    loop.train(Config.from_dict(given[1]["config"]), given[1]["workdir"], until=4)
    assert worker.train(given) == [(DONE, "")] * 4
    together = [json.loads((tmp_path / o["id"] / "environment.json").read_text())["starts"] for o in given]
    assert [[start["together"] for start in starts] for starts in together] == [[3], [1, 3, 1], [3], [1]]


def test_a_worker_that_is_stopped_begins_no_more(tmp_path, monkeypatch, own_output):
    given = orders(tmp_path)
    monkeypatch.setattr(population, "best_size", lambda jobs: (2, "measured"))
    queue = Recorder.queue

    def queue_and_stop(recorder, step, *rest):
        queue(recorder, step, *rest)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Recorder, "queue", queue_and_stop)
    assert [code for code, _ in worker.train(given)] == [RESUMABLE] * 4
    begun = [(tmp_path / order["id"] / "config.json").exists() for order in given]
    assert begun == [True, True, False, False]


def test_who_may_be_trained_together():
    plain = tiny(**SETTINGS)
    rows = {
        "lr": {"optim.lr": 1e-2},
        "seed": {"train.seed": 5, "data.seed": 6},
        "wider": {"model.width": 32},
        "longer": {"train.steps": 20},
        "watched": {"train.watch_every": 3},
    }
    texts = {
        name: population.common_settings(sweeps.resolve(plain, name, row)) for name, row in {"": {}, **rows}.items()
    }
    assert texts["lr"] == texts["seed"] == texts[""] != ""
    assert len({texts[name] for name in ("", "wider", "longer")}) == 3 and texts["watched"] == ""


@pytest.mark.parametrize(
    "together, gpus, sizes",
    [
        (0, ("", ""), [1] * 6),  # cores alone
        (0, ("0", "1"), [2, 2, 1, 1]),  # a fair share for every GPU, while there are any like it
        (3, ("", ""), [3, 1, 2]),
        (1, ("0", "1"), [1] * 6),
    ],
)
def test_what_a_slot_takes(tmp_path, together, gpus, sizes):
    """Four runs of one shape, then two of another."""
    planned = sweeps.jobs(Sweep(tiny(**SETTINGS), ARMS, seeds=(0, 1)))
    planned += sweeps.jobs(Sweep(tiny(**SETTINGS, model__layers=2), ARMS, seeds=(0,)))
    results = SweepResults.plan(tmp_path, Sweep(tiny(**SETTINGS), ARMS, seeds=(0, 1)), planned, tmp_path / "x.py")
    pool = local.Pool(results, planned, [local.Slot((0,), gpu) for gpu in gpus], together, print, print)
    taken = []
    while jobs := pool._next(pool.slots[0]):
        assert len({population.common_settings(job.config) for job in jobs}) == 1
        taken.append([job.id for job in jobs])
    assert sorted(sum(taken, [])) == sorted(job.id for job in planned)
    assert [len(ids) for ids in taken] == sizes


def test_the_number_at_once_is_the_one_that_is_faster(tmp_path, monkeypatch):
    times = {1: 1.0, 2: 1.5, 4: 4.4}
    monkeypatch.setattr(population, "step_seconds", lambda run, size: times[size])
    assert population.best_size(jobs(tmp_path))[0] == 2
    times[2] = 2.5
    size, measured = population.best_size(jobs(tmp_path))
    assert size == 1 and "4 runs: 1.1e+03 ms a step and run" in measured


def test_what_does_not_fit_is_halved(tmp_path, monkeypatch):
    def seconds(run, size):
        if size > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return 1.0

    monkeypatch.setattr(population, "step_seconds", seconds)
    assert population.best_size(jobs(tmp_path))[0] == 2


def test_a_measurement_is_of_real_steps(tmp_path):
    size, measured = population.best_size(jobs(tmp_path))
    assert size in (1, 2, 4) and measured.startswith("1 run: ") and "4 runs: " in measured


def test_a_sweep_of_populations(tmp_path, capfd):
    assert launch.main([*experiment(tmp_path), "--together=4"]) == 0
    assert "4 runs: 0 finished, 4 to train" in capfd.readouterr().out
    environments = list((tmp_path / "out" / "runs").glob("*/environment.json"))
    assert [json.loads(path.read_text())["starts"][0]["together"] for path in environments] == [4] * 4
    logs = [(path.parent / "log.txt").read_text() for path in environments]
    assert sum("trained together with" in log for log in logs) == 3 and not any("at once" in log for log in logs)


@pytest.mark.slow
def test_where_a_gpu_is_the_sweep_measures(tmp_path, monkeypatch):
    """The slot's worker finds a CPU, and measures that."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    command = [word for word in experiment(tmp_path) if "--jobs" not in word]
    assert launch.main(command) == 0
    logs = [path.read_text() for path in (tmp_path / "out" / "runs").glob("*/log.txt")]
    (measured,) = [line for log in logs for line in log.splitlines() if "at once" in line]
    assert measured.startswith("1 run: ") and "; 4 runs: " in measured
