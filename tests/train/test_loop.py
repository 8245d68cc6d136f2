"""The command as a whole: stopped and resumed it is the run it would have been, and it leaves what it should behind."""

import json
import os
import shutil
import signal

import numpy as np
import pytest

import launch
from gpt_jax.errors import Stopped
from gpt_jax.train import loop
from gpt_jax.train.checkpoint.lock import WorkdirLock
from gpt_jax.train.feeds.corpus import Corpus
from tests.reliability.kill import arrays, records
from tests.train import tiny

STEPS = 12
STOPS = (4, 5)  # where an evaluation is due, and in the middle of everything
SETTINGS = dict(
    model__dropout=0.1,
    optim__ema=0.9,
    train__steps=STEPS,
    train__log_every=3,
    train__eval_every=4,
    train__save_every=4,
    train__keep=9,
    train__watch_every=6,
    train__profile="(3,7)",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of an undisturbed run and of some that were stopped and resumed, with what was there in between."""
    folder = tmp_path_factory.mktemp("runs")
    text = tiny.write_text(folder)
    command = lambda stop: tiny.command(text, folder / str(stop), **SETTINGS)
    (whole,), *stopped = [tiny.launch((command(stop), stop)) for stop in (0, *STOPS)]
    assert whole[0] == 0, whole[1]
    between = {stop: (*said, summary(folder / str(stop))) for stop, (said,) in zip(STOPS, stopped, strict=True)}
    resumed = dict(zip(STOPS, tiny.launch(*((command(stop), 0) for stop in STOPS)), strict=True))
    return folder, between, resumed


def summary(workdir) -> dict:
    return json.loads((workdir / "summary.json").read_text())


@pytest.mark.parametrize("stop", STOPS)
def test_a_signal_saves_the_state_and_says_so(runs, stop):
    _, between, _ = runs
    code, said, found = between[stop]
    assert code == 75, said
    assert f"stopped by SIGTERM after {stop} of {STEPS} steps" in said and "error" not in said
    assert (found["status"], found["steps"]) == ("stopped", stop)


@pytest.mark.parametrize("stop", STOPS)
def test_a_resumed_run_is_the_run_it_would_have_been(runs, stop):
    folder, between, resumed = runs
    code, said = resumed[stop]
    assert code == 0, said
    assert f"resumed after {stop} of {STEPS} steps" in said
    assert records(folder / str(stop)) == records(folder / "0")
    wanted = arrays(folder / "0", STEPS)
    for path, value in arrays(folder / str(stop), STEPS).items():
        assert np.array_equal(value, wanted[path]), path
    found, reference = summary(folder / str(stop)), summary(folder / "0")
    assert found["status"] == "done"
    for key in ("steps", "tokens", "flops", "params"):
        assert found[key] == reference[key]
    assert between[stop][2]["training_seconds"] < found["training_seconds"] < found["seconds"]
    assert len(json.loads((folder / str(stop) / "environment.json").read_text())["starts"]) == 2


def test_what_is_recorded_when(runs):
    folder, *_ = runs
    found = records(folder / "0")
    at = lambda name: [record["step"] for record in found if name in record]
    assert at("train/loss") == [3, 6, 9, 12] and at("valid/loss") == [4, 8, 12]
    assert all(record["tokens"] == record["step"] * 4 * 16 for record in found)
    kinds = ("params", "grads", "updates")
    assert all(at(f"watch/{kind}/blocks/0/attention/q/w") == [6, 12] for kind in kinds)
    last = [record for record in found if "valid/loss" in record][-1]
    assert last["valid/perplexity"] == pytest.approx(np.exp(last["valid/loss"]))
    assert last["valid/bits_per_byte"] == pytest.approx(last["valid/loss"] / np.log(2))  # a token is a byte


def test_what_is_left_behind(runs):
    folder, *_ = runs
    workdir = folder / "0"
    for name in ("config.json", "environment.json", "tokenizer.json", "summary.json", "figures/loss.png"):
        assert (workdir / name).stat().st_size > 0, name
    assert sorted(int(path.name) for path in (workdir / "checkpoints").iterdir()) == [4, 8, 12]
    found = summary(workdir)
    assert found["tokens"] == STEPS * 4 * 16 and found["best"]["valid/loss"] == min(
        record["valid/loss"] for record in records(workdir) if "valid/loss" in record
    )


def test_a_run_killed_behind_its_last_save_is_cleaned_up_by_the_same_command(runs, tmp_path):
    folder, *_ = runs
    shutil.copytree(folder / "0", tmp_path / "run")
    (tmp_path / "run/checkpoints/trash-1-0badcafe/state").mkdir(parents=True)
    ((code, said),) = tiny.launch((tiny.command(folder / "text.txt", tmp_path / "run", **SETTINGS), 0))
    assert code == 0, said
    assert sorted(int(path.name) for path in (tmp_path / "run/checkpoints").iterdir()) == [4, 8, 12]


def test_a_trace_of_the_steps_asked_for(runs):
    """Also of a run that stopped before the last of them."""
    folder, *_ = runs
    for name in ("0", *map(str, STOPS)):
        (trace,) = (folder / name / "tensorboard").rglob("*.xplane.pb")
        assert trace.stat().st_size > 0


def test_a_second_run_in_the_same_directory_is_refused(tmp_path, capsys):
    argv = tiny.command(tiny.write_text(tmp_path), tmp_path / "run", train__batch=8)
    with WorkdirLock(tmp_path / "run"):
        assert launch.main(argv) == 2
    said = capsys.readouterr().err
    assert "another run uses this run directory" in said and f"process {os.getpid()}," in said
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_an_evaluation_that_a_signal_cut_short_is_recorded_once(tmp_path, monkeypatch):
    """Though the run is killed again before its next save; and the checkpoint before it can be the best one."""
    knobs = dict(train__batch=8, train__keep=1, train__eval_every=4, train__save_every=4, data__cache=str(tmp_path))
    c = tiny.config(data__source=f"text(path={str(tiny.write_text(tmp_path))!r})", model__vocab=0, **knobs)
    lives = iter(["signal", "kill", "rest"])

    def live() -> None:
        life, batch = next(lives), Corpus.batch

        def evaluate(feed, state, step, stop):
            if life == "signal":
                signal.raise_signal(signal.SIGTERM)
            return None if stop() else {"loss": float(step)}

        def batch_or_killed(feed, k, state):
            assert life != "kill" or k < 6, "killed"
            return batch(feed, k, state)

        with monkeypatch.context() as patch:
            patch.setattr(Corpus, "evaluate", evaluate)
            patch.setattr(Corpus, "batch", batch_or_killed)
            loop.train(c, tmp_path / "run")

    with pytest.raises(Stopped):
        live()
    with pytest.raises(AssertionError, match="killed"):
        live()
    live()
    assert [record["step"] for record in records(tmp_path / "run") if "valid/loss" in record] == [4, 8, 12]
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["12", "4"]
