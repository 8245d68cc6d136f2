"""What TensorBoard and Weights & Biases are told, and that a run outlives them."""

import importlib.machinery
import importlib.util
import json
import struct
import sys
import types
import warnings
from pathlib import Path

import pytest

from gpt_jax.errors import UserError
from gpt_jax.train.record.trackers import Trackers


def events(workdir: Path) -> list:
    """The events of all files in the order they were begun; a record is length, its checksum, data and its checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted((workdir / "tensorboard").glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        raw, at = path.read_bytes(), 0
        while at < len(raw):
            (length,) = struct.unpack_from("<Q", raw, at)
            found.append(event_pb2.Event.FromString(raw[at + 12 : at + 12 + length]))
            at += 12 + length + 4
    return found


def curve(found: list, tag: str) -> dict[int, float]:
    """Step -> value as TensorBoard shows it: a session that starts at step s withdraws what earlier ones said from s on."""
    shown: dict[int, float] = {}
    for event in found:
        if event.session_log.status == event.session_log.START:
            shown = {step: value for step, value in shown.items() if step < event.step}
        for value in event.summary.value:
            if value.tag == tag:
                shown[event.step] = value.simple_value
    return shown


def tracked(workdir: Path, steps, resume_step: int, value: float) -> None:
    trackers = Trackers(workdir, True, "", {}, resume_step)
    for step in steps:
        trackers.scalars(step, {"train/loss": value + step})
    trackers.close()


def test_event_files_read_back_and_a_resumed_run_withdraws(tmp_path):
    tracked(tmp_path, [1, 2, 3, 4, 5], -1, 0.5)
    assert curve(events(tmp_path), "train/loss") == {k: k + 0.5 for k in range(1, 6)}
    first = [path.rename(path.with_name(path.name + ".first")) for path in (tmp_path / "tensorboard").iterdir()]
    tracked(tmp_path, [4], 3, 10.0)
    assert len(list((tmp_path / "tensorboard").iterdir())) == len(first) + 1
    assert curve(events(tmp_path), "train/loss") == {1: 1.5, 2: 2.5, 3: 3.5, 4: 14.0}


def test_a_new_run_withdraws_all_of_what_was_there(tmp_path):
    tracked(tmp_path, [1, 2], -1, 0.5)
    for path in (tmp_path / "tensorboard").iterdir():
        path.rename(path.with_name(path.name + ".first"))
    tracked(tmp_path, [1], -1, 10.0)
    assert curve(events(tmp_path), "train/loss") == {1: 11.0}


def test_texts_are_shown_as_they_are(tmp_path):
    pytest.importorskip("tensorboardX")
    trackers = Trackers(tmp_path, True, "", {}, -1)
    trackers.text(7, "sample", "# no heading\n*")
    trackers.close()
    (value,) = [value for event in events(tmp_path) for value in event.summary.value]
    assert value.tag.startswith("sample") and list(value.tensor.string_val) == [b"    # no heading\n    *"]


def test_nothing_is_made_where_nothing_is_asked_for(tmp_path):
    trackers = Trackers(tmp_path, False, "", {}, -1)
    trackers.scalars(1, {"x": 1.0})
    trackers.text(1, "x", "y")
    trackers.close()
    assert list(tmp_path.iterdir()) == []


class Failing:
    def __init__(self) -> None:
        self.calls = 0

    def scalars(self, step, values):
        self.calls += 1
        raise ConnectionError("the service is gone")


class Keeping:
    def __init__(self) -> None:
        self.steps, self.closed = [], False

    def scalars(self, step, values):
        self.steps.append(step)

    def close(self):
        self.closed = True


def test_a_sink_that_fails_is_left_out_and_the_others_go_on(tmp_path, monkeypatch):
    failing, keeping = Failing(), Keeping()
    monkeypatch.setattr("gpt_jax.train.record.trackers._TensorBoard", lambda *_: failing)
    monkeypatch.setattr("gpt_jax.train.record.trackers._Wandb", lambda *_: keeping)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trackers = Trackers(tmp_path, True, "project", {}, -1)
        for step in (1, 2, 3):
            trackers.scalars(step, {"x": 1.0})
        trackers.close()
    assert failing.calls == 1 and keeping.steps == [1, 2, 3] and keeping.closed
    assert [str(w.message) for w in caught if "is off" in str(w.message)] == [
        "tensorboard is off from here on: ConnectionError('the service is gone')"
    ]


def test_without_tensorboardX_a_run_warns_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="tensorboardX is not installed"):
        Trackers(tmp_path, True, "", {}, -1).close()


def test_wandb_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="wandb is not installed") as caught:
        Trackers(tmp_path, False, "project", {}, -1)
    assert caught.value.where == "config.train.wandb" and "pip install wandb" in caught.value.fix


class FakeRun:
    def __init__(self, **settings):
        self.settings, self.logged, self.axes = settings, [], []

    def define_metric(self, name, **kwargs):
        self.axes.append((name, kwargs))

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.logged.append("finished")


@pytest.fixture
def wandb(monkeypatch) -> types.ModuleType:
    module = types.ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    module.runs, module.Html = [], lambda text: text
    module.init = lambda **settings: module.runs.append(FakeRun(**settings)) or module.runs[-1]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_draws_on_in_the_same_run(tmp_path, wandb):
    for start in (-1, 3):
        trackers = Trackers(tmp_path, False, "project", {"model": {"width": 16}}, start)
        trackers.scalars(4, {"train/loss": 1.5})
        trackers.text(4, "sample", "a < b")
        trackers.close()
    first, second = wandb.runs
    assert first.settings["id"] == second.settings["id"] == json.loads((tmp_path / "wandb.json").read_text())["id"]
    assert first.settings["resume"] == "allow" and first.settings["config"] == {"model": {"width": 16}}
    assert first.logged == [{"train/loss": 1.5, "step": 4}, {"sample": "<pre>a &lt; b</pre>", "step": 4}, "finished"]
    assert ("*", {"step_metric": "step"}) in first.axes


def test_wandb_that_does_not_start_is_refused(tmp_path, wandb):
    def refuse(**_):
        raise RuntimeError("no key")

    wandb.init = refuse
    with pytest.raises(UserError, match="wandb does not start: no key"):
        Trackers(tmp_path, False, "project", {}, -1)
    assert not (tmp_path / "wandb.json").exists()
