"""The seconds of a run by part add up to its launches, and what a kill took is counted as lost, to the step."""

import shutil
import time

import pytest

from gpt_jax.config import Config
from gpt_jax.errors import StorageError
from gpt_jax.mesh import memory
from gpt_jax.run_directory import read_config
from gpt_jax.storage import read_json
from gpt_jax.train import loop
from gpt_jax.train.checkpoint import manifest
from gpt_jax.train.monitors.watchdog import COMPILE, DATA, ROLLOUTS, SAVE, START, STEP, WORDS, Phases
from gpt_jax.train.record import goodput, metrics
from gpt_jax.train.record.goodput import Goodput
from gpt_jax.train.record.recorder import Recorder
from tests.train import tiny


class Launch:
    """A launch of a run in a folder, whose clock stands still but in ``go``."""

    def __init__(self, folder, start: int = 0, notes: dict | None = None, group_size: int = 1):
        self.time = 100.0
        self.phases = Phases(lambda: self.time)
        self.goodput = Goodput(folder, self.phases, group_size, start, notes or {})

    def go(self, phase: str, seconds: float, step: int | None = None) -> None:
        """Spends the seconds in a phase, and writes down the step where there is one."""
        self.phases.begin(phase)
        self.time += seconds
        if step is not None:
            self.goodput.write(step)

    @property
    def notes(self) -> dict:
        """Of a checkpoint made now."""
        return {"goodput": self.goodput.notes()}


def spent(found: Launch | dict) -> dict[str, float]:
    """Parts that took any time."""
    seconds = found.goodput.seconds if isinstance(found, Launch) else found["seconds"]
    return {part: value for part, value in seconds.items() if value}


def test_a_clock_is_always_in_one_phase(tmp_path):
    launch = Launch(tmp_path)
    launch.go(START, 2)
    launch.go(COMPILE, 3)
    launch.go(DATA, 4)
    launch.phases.rename(STEP)
    launch.go(SAVE, 1.5)
    assert launch.phases.now == (SAVE, 109, 0) and launch.phases.elapsed == 1.5
    assert launch.phases.seconds == dict.fromkeys(WORDS, 0) | {START: 2, COMPILE: 3, STEP: 4, SAVE: 1.5}


def test_steps_that_a_kill_took_are_lost_to_the_step_and_the_second(tmp_path):
    first = Launch(tmp_path)
    first.go(START, 1)
    first.go(STEP, 4, step=4)
    notes = first.notes
    first.go(SAVE, 1, step=4)
    first.go(STEP, 3, step=7)
    assert spent(goodput.read(tmp_path)) == {START: 1, STEP: 7, SAVE: 1}

    second = Launch(tmp_path, 4, notes)
    assert second.goodput.lost_steps == 3 and goodput.read(tmp_path)["step"] == 4
    second.go(START, 2)
    second.go(STEP, 5, step=6)

    third = Launch(tmp_path, 4, notes)
    assert third.goodput.lost_steps == 3 + 2
    assert spent(third) == {START: 3, STEP: 4, SAVE: 1, goodput.LOST: 3 + 5}
    assert third.goodput.summary()["goodput"] == 4 / 16
    text = "25% of 16s on steps that count; lost 50%, start 19%, save 6%; 5 steps lost and done again"
    assert goodput.words(goodput.read(tmp_path)) == goodput.words(third.goodput.summary()) == text


def test_a_run_that_was_killed_before_its_first_checkpoint_has_lost_all_its_steps(tmp_path):
    first = Launch(tmp_path)
    first.go(ROLLOUTS, 5, step=3)
    second = Launch(tmp_path)
    assert second.goodput.lost_steps == 3 and spent(second) == {goodput.LOST: 5}


def test_a_run_that_goes_on_before_its_newest_checkpoint_has_lost_what_is_between(tmp_path):
    first = Launch(tmp_path)
    first.go(STEP, 4, step=4)
    notes = first.notes
    first.go(STEP, 4, step=8)
    second = Launch(tmp_path, 4, notes)  # that of 8 is damaged
    assert second.goodput.lost_steps == 4 and spent(second) == {STEP: 4, goodput.LOST: 4}


def test_without_the_file_the_checkpoint_says_what_was_before_it(tmp_path):
    found = Launch(tmp_path, 5, {"goodput": {"lost_steps": 2, "seconds": {STEP: 3.0, goodput.LOST: 1.0}}})
    assert found.goodput.lost_steps == 2 and spent(found) == {STEP: 3, goodput.LOST: 1}
    ahead = Launch(tmp_path, 9, {"goodput": {"lost_steps": 2, "seconds": {STEP: 8.0}}})  # the file ends at 5
    assert ahead.goodput.lost_steps == 2 and spent(ahead) == {STEP: 8}


def test_a_checkpoint_of_before_there_was_such_an_account(tmp_path):
    found = Launch(tmp_path, 5, {"seconds": 10.0, "training_seconds": 4.0})
    assert found.goodput.lost_steps == 0 and spent(found) == {STEP: 4, goodput.OTHER: 6}


def test_runs_trained_as_one_share_the_seconds(tmp_path):
    launch = Launch(tmp_path, group_size=4)
    launch.go(STEP, 8)
    assert spent(launch) == {STEP: 2}


def test_no_process_but_the_first_writes(tmp_path):
    other = Goodput(None, Phases(), 1, 0, {})
    other.write(3)
    other.close()
    assert other.summary()["goodput"] == 0 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"step": 1}', '{"step": 1, "lost_steps": 0, "seconds": {"steps": "nan"}}'],
)
def test_a_damaged_file_is_refused(text, tmp_path):
    (tmp_path / "goodput.json").write_text(text)
    if text == "{}":
        assert goodput.read(tmp_path) == {}
        return
    with pytest.raises(StorageError, match="goodput.json"):
        goodput.read(tmp_path)


def test_writing_costs_next_to_nothing(tmp_path):
    found = Goodput(tmp_path, Phases(), 1, 0, {})
    times = []
    for step in range(300):
        begun = time.perf_counter()
        found.write(step)
        times.append(time.perf_counter() - begun)
    found.close()
    assert sorted(times)[150] < 5e-4 and read_json(tmp_path / "goodput.json", {})["step"] == 299


class Killed(BaseException):
    """As SIGKILL, it lets a launch write nothing more."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run that was killed after 7 of 12 steps, 3 past its checkpoint, and resumed; with the seconds of both launches."""
    folder = tmp_path_factory.mktemp("killed")
    source = f"text(path={str(tiny.write_text(folder))!r})"
    saves = dict(train__save_every=4, train__eval_every=6, train__watch_every=5)
    settings = tiny.config(data__source=source, data__cache=str(folder / "cache"), train__batch=8, **saves)
    times = []
    with pytest.MonkeyPatch.context() as patch:
        queue = Recorder.queue

        def killed_at_seven(recorder, step, *rest):
            queue(recorder, step, *rest)
            if step == 8:  # the metrics of 7 have been read
                raise Killed

        patch.setattr(Recorder, "queue", killed_at_seven)
        begun = time.monotonic()
        with pytest.raises(Killed):
            loop.train(settings, folder / "run")
        times.append(time.monotonic() - begun)
    begun = time.monotonic()
    loop.train(settings, folder / "run")
    return folder / "run", [*times, time.monotonic() - begun]


def test_a_run_that_was_killed_and_resumed_shows_what_it_lost(killed):
    workdir, times = killed
    found = metrics.read_summary(workdir)
    assert found["lost_steps"] == 7 - 4 and found["status"] == "done"
    parts = found["seconds_by_part"]
    assert {"start", "restore", "compile", "data", "steps", "evaluation", "save", "end", "lost"} == parts.keys()
    assert sum(parts.values()) == pytest.approx(found["seconds"], abs=0.01)
    # The parts are the wall-clock of both launches, but for what the first did after its last step.
    assert found["seconds"] == pytest.approx(sum(times), rel=0.2) and found["seconds"] <= sum(times) + 0.01
    assert found["goodput"] == pytest.approx(parts["steps"] / found["seconds"], abs=1e-3)
    assert found["compile_seconds"] == parts["compile"] > 0
    kept = goodput.read(workdir)
    assert (kept["step"], kept["lost_steps"]) == (12, 3)
    assert sum(kept["seconds"].values()) == pytest.approx(found["seconds"], abs=0.1)
    saved = manifest.read(workdir / "checkpoints" / "12").meta["goodput"]
    assert saved["lost_steps"] == 3 and 0 < saved["seconds"][STEP] <= kept["seconds"][STEP] + 1e-5


def test_records_say_how_fast_each_device_was_and_what_it_held(killed, monkeypatch):
    last = metrics.read(killed[0])[-2]
    assert last["speed/tokens_per_second_per_device"] == pytest.approx(last["speed/tokens_per_second"] / 8)
    assert 0 < last["speed/mfu"] < 1
    assert "speed/peak_bytes" not in last and memory.peak_bytes() is None  # CPUs do not say

    class Device:
        def __init__(self, stats):
            self.memory_stats = lambda: stats

    devices = [Device({"peak_bytes_in_use": 5}), Device({"peak_bytes_in_use": 9}), Device(None), Device({})]
    monkeypatch.setattr(memory.jax, "local_devices", lambda: devices)
    assert memory.peak_bytes() == 9


def test_a_finished_run_started_again_adds_what_that_took(killed, tmp_path):
    workdir = shutil.copytree(killed[0], tmp_path / "run")
    before = metrics.read_summary(workdir)
    loop.train(Config.from_dict(read_config(workdir)), workdir)
    after = metrics.read_summary(workdir)
    assert after["seconds"] > before["seconds"] and after["goodput"] < before["goodput"]
    assert after["seconds_by_part"]["steps"] == before["seconds_by_part"]["steps"]
    assert after["lost_steps"] == before["lost_steps"]
