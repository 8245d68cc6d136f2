"""Who is named where a collective fails: what processes say in the coordinator's store. Real processes are killed in
tests/reliability/test_launch.py.
"""

import threading
import time

import jax
import pytest

from gpt_jax.errors import Stopped, StorageError
from gpt_jax.mesh import presence

FAILURE = "Gloo AllReduce failed: Connection closed by peer"


class Store:
    """The coordinator's, in this process; ``answers``: whether it is there. Others count when somebody reads."""

    def __init__(self, counting):
        self.values, self.counting, self.answers = {}, counting, True
        for rank in range(4):
            self.values[f"{presence.ALIVE}/{rank}"] = "1"

    def key_value_set(self, key, value, allow_overwrite=False):
        self._ask()
        self.values[key] = value

    def key_value_dir_get(self, folder):
        self._ask()
        for rank in self.counting:
            key = f"{presence.ALIVE}/{rank}"
            self.values[key] = str(int(self.values[key]) + 1)
        return [(key, value) for key, value in self.values.items() if key.startswith(folder)]

    def _ask(self):
        if not self.answers:
            raise jax.errors.JaxRuntimeError("UNAVAILABLE")


@pytest.fixture
def store(monkeypatch):
    made = Store(counting=[0, 1, 2])
    monkeypatch.setattr(presence.distributed.global_state, "client", made)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    monkeypatch.setattr(presence, "STILL", 0.0)
    return made


def test_the_process_that_no_longer_counts_is_named(store):
    with pytest.raises(Stopped, match="^process 3 of this launch is gone: Gloo AllReduce failed"):
        with presence.naming():
            raise RuntimeError(FAILURE)


def test_he_is_named_where_a_save_fails_for_want_of_him(store):
    with pytest.raises(Stopped, match="^process 3 of this launch is gone: Timed out while waiting for commit barrier"):
        with presence.naming():
            raise StorageError("the checkpoint could not be saved") from TimeoutError(
                "Timed out while waiting for commit barrier"
            )
    with pytest.raises(StorageError, match="full"):
        with presence.naming():
            raise StorageError("the disk is full") from OSError("No space left on device")


def test_several_are_named_together(store):
    store.counting = [0, 1]
    with pytest.raises(Stopped, match="^processes 2, 3 of this launch are gone"):
        with presence.naming():
            raise ValueError(FAILURE)


def test_one_that_has_left_because_of_another_is_not_named(store):
    store.counting = [0, 1]
    store.values[f"{presence.LEFT}/2"] = "3"
    assert presence.gone() == "process 3"
    assert store.values[f"{presence.LEFT}/1"] == "3"


def test_without_the_coordinator_process_0_is_named(store):
    store.answers = False
    assert presence.gone() == "process 0"


def test_where_all_count_the_error_stays_as_it_is(store):
    store.counting = [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match="^Gloo"):
        with presence.naming():
            raise RuntimeError(FAILURE)


def test_other_errors_pass(store):
    with pytest.raises(KeyError):
        with presence.naming():
            raise KeyError("x")


def test_a_process_alone_has_nobody_to_name(monkeypatch):
    assert presence.gone() == ""


@pytest.fixture
def waits(store, monkeypatch):
    """Seconds that process 0 has waited, by a clock that only its waiting moves."""
    waited = [0.0]
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    monkeypatch.setattr(presence.time, "monotonic", lambda: waited[0])
    monkeypatch.setattr(presence.time, "sleep", lambda seconds: waited.__setitem__(0, waited[0] + seconds))
    return waited


def test_the_coordinator_leaves_when_all_others_have(store, waits):
    store.values |= {f"{presence.LEFT}/0": "3", f"{presence.LEFT}/1": "3", f"{presence.LEFT}/2": "3"}
    presence.leave_last()
    assert waits == [presence.LEAVING]


def test_the_coordinator_waits_for_those_who_have_not_left(store, waits):
    store.values |= {f"{presence.LEFT}/0": "3", f"{presence.LEFT}/1": "3"}
    presence.leave_last()
    assert waits[0] == pytest.approx(presence.PATIENCE + presence.LEAVING, abs=presence.EVERY)


def test_others_do_not_wait(store, waits, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 2)
    presence.leave_last()
    assert waits == [0.0]


def test_who_stands_still_is_said_once_until_he_counts_again():
    listener, still = presence.Listener(), []
    counts = {0: 0, 1: 0, 2: 0}
    for now in range(0, 60, 2):
        counts = {rank: count + (rank != 2 or now < 10 or 30 < now < 40) for rank, count in counts.items()}
        still.append((now, listener.newly_still({rank: str(count) for rank, count in counts.items()}, float(now))))
    said = [(now, ranks) for now, ranks in still if ranks]
    assert [ranks for _, ranks in said] == [[2], [2]]
    assert 8 + presence.STILL <= said[0][0] <= 10 + presence.STILL and 38 + presence.STILL <= said[1][0] <= 46


def test_a_process_counts_until_it_leaves(store, monkeypatch):
    monkeypatch.setattr(presence, "EVERY", 0.01)
    with presence.counting():
        while int(store.values[f"{presence.ALIVE}/1"]) < 3:
            time.sleep(0.001)
        assert not any(key.startswith(presence.LEFT) for key in store.values)
    assert store.values[f"{presence.LEFT}/1"] == ""
    assert not [thread for thread in threading.enumerate() if thread.name == "presence"]


def test_who_has_left_is_not_said_to_stand_still(store, monkeypatch, capsys):
    monkeypatch.setattr(presence, "EVERY", 0.01)
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    monkeypatch.setattr(presence, "STILL", 0.3)
    store.counting, store.values[f"{presence.LEFT}/2"] = [0, 1], ""
    with presence.counting():
        time.sleep(0.6)
    assert capsys.readouterr().err == "process 3 of 4 has not answered for 0 s\n"
