"""Sweeps: what is planned, and real ones that are killed, fail, and go on."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.monitoring
import numpy as np
import pytest

import launch
from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.study.sweep import Sweep, arms
from gpt_jax.study.sweep import sweep as sweeps
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.train import loop

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENT = """
from gpt_jax.configs import base
from gpt_jax.study.sweep import arms
from gpt_jax.study.sweep import Sweep

def sweep():
    c = base.get_config()
    c.model.update(layers=1, width=16, heads=2, context=16)
    c.data.update(source="markov()", tokenizer="none")
    c.train.update(steps={steps}, batch=8, eval_every=20, save_every=10, log_every=5, eval_batches=2, tensorboard=False)
    c.optim.warmup = 5
    c.sample.prompts = ()
    return Sweep(c, {arms}, seeds=(0, 1))
"""


def tiny(**changes):
    c = base.get_config()
    c.model.update(layers=1, width=16, heads=2, context=16)
    c.data.update(source="markov()", tokenizer="none")
    for knob, value in changes.items():
        section, _, key = knob.partition("__")
        c[section][key] = value
    return c


def experiment(folder: Path, steps: int = 20, arms: str = '{"plain": {}, "fast": {"optim.lr": 1e-2}}') -> list[str]:
    """The command line of a sweep of two seeds."""
    (folder / "tiny.py").write_text(EXPERIMENT.format(steps=steps, arms=arms))
    return ["sweep", f"--config={folder / 'tiny.py'}", f"--workdir={folder / 'out'}", "--jobs=2"]


def test_an_error_of_an_experiment_names_its_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import math\n\ndef sweep():\n    return math.sqrt(-1)\n")
    with pytest.raises(UserError, match=r"ValueError: math domain error\n.*mine.py:4"):
        sweeps.load(path)
    path.write_text("def sweep(:\n")
    with pytest.raises(UserError, match=r"SyntaxError: .*line 1"):
        sweeps.load(path)


def test_combinators():
    lrs, sizes = {"optim.lr": [1e-3, 1e-2]}, {"model.width": [32, 64]}
    assert list(arms.grid(lrs | sizes)) == [
        "lr=0.001, width=32",
        "lr=0.001, width=64",
        "lr=0.01, width=32",
        "lr=0.01, width=64",
    ]
    assert arms.zipped(lrs | sizes)["lr=0.01, width=64"] == {"optim.lr": 1e-2, "model.width": 64}
    assert list(arms.one_at_a_time(lrs | sizes)) == ["baseline", "lr=0.001", "lr=0.01", "width=32", "width=64"]
    assert arms.cross({"a": {"optim.lr": 1.0}}, arms.grid(sizes))["a, width=32"] == {"optim.lr": 1.0, "model.width": 32}
    drawn = arms.sample({"optim.lr": arms.log_uniform(1e-4, 1e-2)}, 50, seed=1)
    values = [overrides["optim.lr"] for overrides in drawn.values()]
    assert drawn == arms.sample({"optim.lr": arms.log_uniform(1e-4, 1e-2)}, 50, seed=1)
    assert min(values) >= 1e-4 and max(values) <= 1e-2 and 0.3e-3 < np.exp(np.mean(np.log(values))) < 3e-3
    with pytest.raises(UserError, match="two arms are called"):
        arms.chain({"a": {}}, {"a": {}})
    with pytest.raises(UserError, match="differ in length"):
        arms.zipped({"a": [1], "b": [1, 2]})


def test_equal_settings_are_one_run_under_a_lasting_name():
    given = {"plain": {}, "same": {"optim.lr": 6e-4}, "other": {"optim.lr": 1e-3}}
    planned = sweeps.jobs(Sweep(tiny(), given, seeds=(0, 1)))
    assert [job.arms for job in planned] == [("plain", "same"), ("other",)] * 2
    assert [job.seed for job in planned] == [0, 0, 1, 1] and len({job.id for job in planned}) == 4
    more = sweeps.jobs(Sweep(tiny(), given | {"third": {"model.mlp": "swiglu"}}, seeds=(0, 1, 2)))
    assert {job.id for job in planned} < {job.id for job in more}
    assert all(job.config.train.seed == job.config.data.seed == job.seed for job in more)


def test_the_arm_of_chance_differs_in_initial_values_alone():
    planned = sweeps.jobs(Sweep(tiny(), {"plain": {"optim.lr": 1e-3}, "other": {}}, seeds=(3, 4), noise=True))
    pairs = {job.arms[0]: job.config for job in planned if job.seed == 3}
    plain, again = pairs["plain"].to_dict(), pairs["A/A"].to_dict()
    assert plain["train"].pop("seed") == 3 and again["train"].pop("seed") != 3
    assert plain == again and plain["optim"]["lr"] == 1e-3 and len(planned) == 6
    named = Sweep(tiny(), {"plain": {}, "other": {"optim.lr": 1e-3}}, baseline=None, noise="other")
    assert named.arms["A/A"] == {"optim.lr": 1e-3} and len(sweeps.jobs(named)) == 9
    with pytest.raises(UserError, match="no arm 'third'"):
        Sweep(tiny(), {"plain": {}}, noise="third")


@pytest.mark.parametrize(
    "sweep, what",
    [
        (Sweep(tiny(), {"a": {"optim.lrr": 1.0}}), "there is no knob"),
        (Sweep(tiny(), {"a": {"optim.lr": -1.0}}), "optim.lr"),
        (Sweep(tiny(), {"a": {}}, seeds=()), "needs arms and seeds"),
        (Sweep(tiny(), {"a": {}}, seeds=(1, 1)), "seeds"),
        (Sweep(tiny(), {"a": {}}, baseline="b"), "no arm 'b'"),
        (Sweep(tiny(), {"a": {}, "b": {"data.source": "copy()"}}), "differ in data.source"),
        (Sweep(tiny(), {"a": {}, "b": {"data.tokenizer": "bytes"}}), "differ in data.tokenizer"),
    ],
)
def test_sweeps_that_make_no_sense_are_refused(sweep, what):
    with pytest.raises(UserError) as refusal:
        sweeps.jobs(sweep)
    assert what in str(refusal.value)


def test_other_tokens_can_be_compared_per_byte():
    given = {"a": {}, "b": {"data.tokenizer": "bytes"}}
    assert len(sweeps.jobs(Sweep(tiny(), given, metric="valid/bits_per_byte"))) == 6


def test_runs_of_one_shape_compile_once(tmp_path):
    compiled = []
    listener = lambda event, seconds, **about: compiled.append((about.get("fun_name", ""), event))
    planned = sweeps.jobs(Sweep(tiny(train__steps=3, sample__prompts=()), {"a": {}, "b": {"optim.lr": 1e-2}}))
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        counts = []
        for i, job in enumerate(planned):
            compiled.clear()
            loop.train(job.config, tmp_path / str(i))
            counts.append(sum("train_step" in name and "trace" in event for name, event in compiled))
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert counts[0] >= 1 and counts[1:] == [0] * (len(planned) - 1)
    records = [(tmp_path / str(i) / "metrics.jsonl").read_text() for i in range(len(planned))]
    assert len(set(records)) == len(planned)


def test_sharing_a_program_changes_no_bit(tmp_path):
    """A run after another of its shape is the run alone."""
    first, second = sweeps.jobs(Sweep(tiny(train__steps=5, sample__prompts=()), {"a": {}}, seeds=(0, 1)))
    losses = []
    for place, job in (("first", first), ("shared", second)):
        loop.train(job.config, tmp_path / place)
    jax.clear_caches()
    from gpt_jax.train import step

    step._make_program.cache_clear()
    loop.train(second.config, tmp_path / "alone")
    for place in ("shared", "alone"):
        lines = (tmp_path / place / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line).get("train/loss") for line in lines])
    assert losses[0] == losses[1]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A sweep of two arms and two seeds that was killed, its workers too, three times."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, str(ROOT / "launch.py"), *experiment(folder, steps=40)]
    for kill, lines in enumerate((1, 8, 24)):  # of 40 in all: in the first runs, again, and in the last ones
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        deadline = time.monotonic() + 240
        while _lines(folder) < lines and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if kill == 2 and process.poll() == 0:
            break  # a machine so fast that it was done before it could be killed again
        assert process.poll() is None, process.stdout.read()
        process.send_signal(signal.SIGKILL if kill != 1 else signal.SIGTERM)
        code = process.wait(timeout=120)
        assert code == (75 if kill == 1 else -signal.SIGKILL)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def _lines(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in folder.glob("out/runs/*/metrics.jsonl"))


@pytest.mark.slow
def test_a_killed_sweep_ends_with_every_run_once(killed):
    folder, said = killed
    runs = sorted((folder / "out" / "runs").iterdir())
    assert len(runs) == 4 and "plain" in said and "fast" in said
    for run in runs:
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [r["step"] for r in records if "train/loss" in r] == list(range(5, 41, 5))
        assert json.loads((run / "summary.json").read_text())["status"] == "done"


@pytest.mark.slow
def test_a_finished_sweep_trains_nothing_more(killed, capsys):
    folder, _ = killed
    before = {path: path.stat().st_mtime_ns for path in folder.glob("out/runs/*/*.json*")}
    assert launch.main(experiment(folder, steps=40)) == 0
    assert "4 finished, 0 to train" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("out/runs/*/*.json*")}


def test_a_failed_run_is_named_and_trained_again_when_asked(tmp_path, capsys):
    command = experiment(tmp_path, arms='{"plain": {}, "wild": {"optim.lr": 1e38}}')
    assert launch.main(command) == 76
    said = capsys.readouterr().err
    lines, error = said.split("error: ")
    assert "wild, seed 0: step 2: loss nan" in error and "--retry" in error
    assert (
        "wild, seed 0: failed: step 2: loss nan" in lines and "plain, seed 0: done after 20 steps, valid/loss " in lines
    )
    failed = {path.parent: path.stat().st_mtime_ns for path in tmp_path.glob("out/runs/*/failure.json")}
    assert len(failed) == 2
    assert launch.main(command) == 76
    assert "4 finished, 0 to train" in capsys.readouterr().out
    assert launch.main([*command, "--retry"]) == 76
    assert "2 finished, 2 to train" in capsys.readouterr().out
    results = SweepResults.read(tmp_path / "out")
    assert results.command == ("python", "launch.py", *command, "--retry")
    assert (results.workdir / "experiment.py").read_text() == (tmp_path / "tiny.py").read_text()


def test_a_file_that_is_no_experiment(tmp_path, capsys):
    (tmp_path / "x.py").write_text("a = 1\n")
    assert launch.main(["sweep", f"--config={tmp_path / 'x.py'}", f"--workdir={tmp_path / 'out'}"]) == 2
    assert "no function sweep()" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert launch.main(["sweep", f"--config={tmp_path / 'y.py'}", f"--workdir={tmp_path / 'out'}"]) == 2
    assert launch.main(["sweep", f"--workdir={tmp_path / 'out'}"]) == 2
