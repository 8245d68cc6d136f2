"""Checkpoints with damaged files and on disks that refuse."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from gpt_jax.errors import StorageError
from gpt_jax.train.checkpoint import manifest
from tests.train.states import abstract, assert_same, opened, run, saved, state_at


def _refuse():
    raise OSError(errno.ENOSPC, "No space left on device")


def _delete(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _replace(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.every(3)
@pytest.mark.parametrize("damage", [_delete, _empty, _truncate, _flip, _append, _replace])
def test_damage_to_any_file_is_noticed(tmp_path, damage, caplog):
    saved(tmp_path / "whole", 1, 2)
    newest = tmp_path / "whole/checkpoints/2"
    files = sorted(path.relative_to(newest) for path in newest.rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) >= 10 and Path("manifest.json") in files
    wanted = abstract(state_at(1))
    for number, file in enumerate(files):
        workdir = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", workdir)
        damage(workdir / "checkpoints/2" / file)
        with pytest.raises(StorageError, match="step 2 is damaged") as caught:
            opened(workdir).restore(wanted, step=2)
        assert file.name in str(caught.value)
        assert opened(workdir).steps() == [1, 2]  # a named step is only reported
        step, found, meta = opened(workdir).restore(wanted)
        assert (step, meta) == (1, {"tokens": 100})
        assert_same(found, state_at(1))
        assert sorted(os.listdir(workdir / "checkpoints")) == ["1", "corrupt-2-0"]
        assert "renamed to corrupt-2-0" in caplog.text
        caplog.clear()


def test_a_state_under_another_steps_name_is_damaged(tmp_path):
    checkpoints = saved(tmp_path, 1, 2)
    os.rename(tmp_path / "checkpoints/2", tmp_path / "checkpoints/3")
    assert checkpoints.restore(abstract(state_at(1)))[0] == 1


def test_a_run_whose_every_state_is_damaged_does_not_start_again(tmp_path):
    checkpoints = saved(tmp_path, 1, 2)
    for step in (1, 2):
        _flip(tmp_path / f"checkpoints/{step}/manifest.json")
    for _ in range(2):  # the second time there are only renamed ones
        with pytest.raises(StorageError, match="every checkpoint is damaged: corrupt-1-0, corrupt-2-0"):
            checkpoints.restore(abstract(state_at(1)))


def _no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("surface", ["save", "wait", "close", "restore"])
def test_an_error_beside_training_surfaces_on_the_next_call(tmp_path, monkeypatch, surface):
    checkpoints = saved(tmp_path, 1, keep=1)
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "write", _no_space)
        checkpoints.save(2, state_at(2), {})
        checkpoints._thread.join()
    calls = {
        "save": lambda: checkpoints.save(3, state_at(3), {}),
        "wait": checkpoints.wait,
        "close": checkpoints.close,
        "restore": lambda: checkpoints.restore(abstract(state_at(1))),
    }
    with pytest.raises(StorageError, match="(?s)step 2 could not be saved.*No space left.*bytes are free"):
        calls[surface]()
    assert os.listdir(tmp_path / "checkpoints") == ["1"]  # keep=1 and a failing save: the old state stays
    checkpoints.save(4, state_at(4), {})
    checkpoints.close()
    assert os.listdir(tmp_path / "checkpoints") == ["4"]


def test_what_a_thread_of_a_failed_save_writes_late_is_removed(tmp_path, monkeypatch):
    checkpoints = opened(tmp_path)
    monkeypatch.setattr(manifest, "write", lambda *_: _refuse())
    checkpoints.save(1, state_at(1), {})
    with pytest.raises(StorageError, match="step 1 could not be saved"):
        checkpoints.wait()
    (staging,) = checkpoints._failed
    staging.mkdir()
    (staging / "late").write_text("x")
    checkpoints.close()
    assert os.listdir(tmp_path / "checkpoints") == []


def test_an_error_before_writing_is_raised_at_once(tmp_path):
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(StorageError, match="step 1 could not be saved"):
        opened(tmp_path).save(1, state_at(1), {})


def test_a_full_disk_leaves_no_debris_and_is_survived(tmp_path):
    script = """
        import resource, sys
        from gpt_jax.errors import StorageError
        from gpt_jax.train.checkpoint.checkpoints import Checkpoints
        assert "orbax.checkpoint" not in sys.modules  # commands that save nothing start without it
        import jax, numpy as np
        checkpoints = Checkpoints(sys.argv[1], 1, True)
        state = {"w": jax.device_put(np.random.default_rng(0).standard_normal(1 << 20))}
        checkpoints.save(1, state, {})
        checkpoints.wait()
        for limit in (0, 300, 5_000, 1_000_000, 10):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                checkpoints.save(2, state, {})
                checkpoints.wait()
                print("saved", limit)
            except StorageError as error:
                assert sys.argv[1] in str(error) and "bytes are free" in str(error), error
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            print(*[path.name for path in checkpoints.directory.iterdir()])
        checkpoints.save(2, state, {})
        checkpoints.close()
        print(*[path.name for path in checkpoints.directory.iterdir()])
    """
    out, err = run(script, str(tmp_path)).communicate(timeout=120)
    assert out.split() == ["1"] * 5 + ["2"], out + err
    assert "ERROR:absl" not in err
