"""metrics.jsonl keeps every bit, a resumed run keeps what it should, and no file is ever half there."""

import json
import math
import os
import resource
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.errors import StorageError
from gpt_jax.train.record import metrics
from gpt_jax.train.record.metrics import MetricsLog, read


def logged(workdir: Path, steps, resume_step: int = -1) -> MetricsLog:
    log = MetricsLog(workdir, resume_step)
    for step in steps:
        log.write(step, {"tokens": 10 * step, "train/loss": 1 / step})
    return log


def steps_of(workdir: Path) -> list[int]:
    return [record["step"] for record in read(workdir)]


def test_floats_come_back_to_the_last_bit(tmp_path):
    random = np.random.default_rng(0).integers(0, 2**64, 500, np.uint64).view(np.float64)
    values = [0.1 + 0.2, 5e-324, -0.0, 1.7976931348623157e308, math.nan, math.inf, -math.inf, *map(float, random)]
    log = MetricsLog(tmp_path, -1)
    log.write(1, {"tokens": 0, **{f"x{i}": value for i, value in enumerate(values)}})
    found = np.array([read(tmp_path)[0][f"x{i}"] for i in range(len(values))])
    same = found.view(np.uint64) == np.array(values).view(np.uint64)
    assert (same | (np.isnan(found) & np.isnan(values))).all()


@pytest.mark.parametrize("scalar", [np.float32(0.1), jnp.float32(0.1), np.float64(0.1), np.int64(7), jnp.bfloat16(0.1)])
def test_scalars_of_any_kind(tmp_path, scalar):
    MetricsLog(tmp_path, -1).write(np.int32(3), {"tokens": np.int64(5), "x": scalar})
    record = read(tmp_path)[0]
    assert record["x"] == float(scalar) and (record["step"], record["tokens"]) == (3, 5)


def test_every_line_is_plain_json_with_the_three_fields_first(tmp_path):
    MetricsLog(tmp_path, -1).write(1, {"train/loss": math.nan, "tokens": 2})
    refuse = lambda name: pytest.fail(f"{name} is not JSON")
    record = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert list(record) == ["step", "tokens", "time", "train/loss"] and record["train/loss"] == "nan"
    assert abs(record["time"] - time.time()) < 60


def test_a_record_is_on_file_before_the_log_is_closed(tmp_path):
    log = logged(tmp_path, [1, 2])
    assert steps_of(tmp_path) == [1, 2]
    log.sync()
    log.close()


def test_resuming_drops_what_came_after(tmp_path):
    logged(tmp_path, [1, 2, 3, 3, 4, 5]).close()
    kept = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)[:4]
    log = logged(tmp_path, [4], resume_step=3)
    assert (tmp_path / "metrics.jsonl").read_bytes().startswith(b"".join(kept))
    assert steps_of(tmp_path) == [1, 2, 3, 3, 4]
    log.close()
    logged(tmp_path, [], resume_step=-1)
    assert read(tmp_path) == []


@pytest.mark.parametrize("torn", ['{"step": 3, "tok', '{"step": 3}', "\x00\x00"])
def test_a_torn_last_line_is_left_out(tmp_path, torn):
    logged(tmp_path, [1, 2]).close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(torn)
    assert steps_of(tmp_path) == [1, 2]
    logged(tmp_path, [3], resume_step=9)
    assert steps_of(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("damage", [b'{"step": 2, "tok', b'{"step": 2}', b"[]", b"\xff\xfe", b""])
def test_a_damaged_line_is_named_and_nothing_is_touched(tmp_path, damage):
    logged(tmp_path, [1, 2, 3]).close()
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    lines[1] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    for attempt in (lambda: read(tmp_path), lambda: MetricsLog(tmp_path, 3)):
        with pytest.raises(StorageError, match="line 2 of metrics.jsonl") as caught:
            attempt()
        assert caught.value.where == f"{path}:2"
    assert path.read_bytes() == before


def test_a_run_without_records_reads_as_empty(tmp_path):
    assert read(tmp_path) == [] and metrics.read_summary(tmp_path) == {}


def test_the_old_file_stays_where_the_new_one_cannot_be_put_in_place(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("old")

    def refuse(*_):
        assert [p.read_text() for p in tmp_path.glob(".a.json.*")] == ["new"]
        assert path.read_text() == "old"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError, match="No space left"):
        metrics.write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_contents_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda *a: (calls.append("replace"), replace(*a)))
    monkeypatch.setattr(os, "fsync", lambda *a: (calls.append("fsync"), fsync(*a)))
    metrics.write_atomically(tmp_path / "a", "text")
    assert calls == ["fsync", "replace", "fsync"] and (tmp_path / "a").read_text() == "text"


@pytest.mark.parametrize("room, said", [(0, "File too large"), (5, "only a part of a record")])
def test_a_disk_that_takes_no_more_is_told(tmp_path, room, said):
    """The system refuses what goes beyond the size that this process may give to a file."""
    log = MetricsLog(tmp_path, -1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        with pytest.raises(StorageError, match=said):
            log.write(1, {"tokens": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_json_keeps_what_json_has_no_word_for(tmp_path):
    values = {"a": [1.5, math.inf, {"b": -math.inf}], "c": np.float32(0.5), "d": (1, 2), "e": None, "f": True}
    path = metrics.write_json(tmp_path / "x.json", values)
    assert metrics.read_json(path, missing=None) == {
        "a": [1.5, math.inf, {"b": -math.inf}],
        "c": 0.5,
        "d": [1, 2],
        "e": None,
        "f": True,
    }
    path.write_text("{")
    with pytest.raises(StorageError, match="x.json is not JSON"):
        metrics.read_json(path, missing=None)


def test_a_summary_knows_the_last_and_the_best():
    records = [
        {"step": 1, "train/loss": 3.0},
        {"step": 1, "valid/loss": 2.0},
        {"step": 2, "valid/loss": 1.0},
        {"step": 3, "valid/loss": math.nan},
        {"step": 4, "train/loss": 0.5},
    ]
    found = metrics.summarise(records)
    assert found["best"] == {"step": 2, "valid/loss": 1.0}
    assert found["final"]["step"] == 4 and found["final"]["train/loss"] == 0.5
    assert math.isnan(found["final"]["valid/loss"])
    assert metrics.summarise(records[:1])["best"] == {}


def test_a_summary_is_whole_or_refused(tmp_path):
    whole = dict(status="done", steps=1, tokens=2, flops=3.0, seconds=4.0, final={}, best={})
    metrics.write_summary(tmp_path, whole | {"more": 1})
    assert metrics.read_summary(tmp_path) == whole | {"more": 1}
    del whole["flops"]
    with pytest.raises(ValueError, match="flops"):
        metrics.write_summary(tmp_path, whole)
