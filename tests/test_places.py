"""Paths that users give, places that cannot be written, and file systems that lack something."""

import contextlib
import errno
import fcntl
import io
import json
import os
import pwd
import sys
from pathlib import Path

import numpy as np
import pytest

import launch
from gpt_jax import registry, storage
from gpt_jax.cluster import slurm
from gpt_jax.configs import find
from gpt_jax.data import cache
from gpt_jax.data.corpus import memmap
from gpt_jax.data.open import open_data
from gpt_jax.data.tokenizers import Texts
from gpt_jax.errors import StorageError, UserError
from gpt_jax.sample.prompts import read_prompts
from tests.train import tiny

TEXTS = Texts((), 0.1, Path())
READERS = {
    "--config": find,
    "--prompts": lambda path: read_prompts({"prompts": path}, tiny.config().sample, None),
    "config.data.source": lambda path: source("text", path),
    "tokens": lambda path: source("tokens", path, vocab=9),
    "config.data.tokenizer": lambda path: registry.lookup("data.tokenizers", "file")(TEXTS, path=path),
    "gpt2": lambda path: registry.lookup("data.tokenizers", "gpt2")(TEXTS, path=path),
    "config.data.cache": lambda path: open_data(tiny.config(data__source=f"text(path={__file__!r})", data__cache=path)),
}


def source(name: str, path: str, **more):
    return registry.lookup("data.sources", name)(tiny.config(), path=path, **more)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("path, word", [("s3://bucket/x", "address"), ("gs:/bucket/x", "address"), ("", "empty")])
def test_a_path_that_is_none_of_this_machine_is_refused(reader, path, word):
    with pytest.raises(UserError, match=word):
        READERS[reader](path)


def test_a_path_below_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.local_path("~/x", "--workdir") == tmp_path / "x"


@pytest.fixture
def homeless(monkeypatch):
    """As of a user id without an entry in passwd, and no HOME."""

    def nobody(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)


@pytest.mark.parametrize("reader", READERS)
def test_every_path_is_expanded(reader, homeless):
    with pytest.raises(UserError, match="no home directory"):
        READERS[reader]("~/x")


def test_without_a_home_there_is_no_cache_and_only_text_needs_one(homeless):
    assert storage.cache_folder("x") is None
    default = "~/.cache/gpt_jax"
    assert open_data(tiny.config(data__source="copy(symbols=4)", data__cache=default, model__vocab=0)).vocab
    with pytest.raises(UserError, match="no home directory") as refusal:
        open_data(tiny.config(data__source=f"text(path={__file__!r})", data__cache=default))
    assert refusal.value.where == "config.data.cache"


def test_a_cache_that_cannot_be_written_is_none(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert storage.cache_folder("x") is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert storage.cache_folder("x") == tmp_path / "gpt_jax" / "x"


def refusing(number: int):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_keeps_a_cache(number, monkeypatch, tmp_path):
    monkeypatch.setattr(fcntl, "flock", refusing(number))

    def write(folder):
        (folder / "x").write_text("1")

    def write_late(folder):
        cache.entry(tmp_path, "key", write)  # as another process that builds the same, and is faster
        write(folder)

    assert cache.entry(tmp_path, "key", write_late) == tmp_path / "key" and cache.is_complete(tmp_path / "key")
    assert not list(tmp_path.glob("*building*"))


def test_a_file_system_that_cannot_map_files_is_read(monkeypatch, tmp_path):
    np.arange(9, dtype=np.uint16).tofile(tmp_path / "x")
    monkeypatch.setattr(np, "memmap", refusing(errno.ENODEV))
    assert memmap(tmp_path / "x", np.dtype(np.uint16), 4).tolist() == [2, 3, 4, 5, 6, 7, 8]


def test_a_file_system_that_cannot_sync_directories_is_written(monkeypatch, tmp_path):
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: refusing(errno.EINVAL)() if os.path.isdir(f"/proc/self/fd/{fd}") else sync(fd)
    )
    storage.write_atomically(tmp_path / "x", "text")
    assert (tmp_path / "x").read_text() == "text"
    monkeypatch.setattr(os, "fsync", refusing(errno.ENOSPC))
    with pytest.raises(StorageError, match=os.strerror(errno.ENOSPC)):
        storage.write_atomically(tmp_path / "x", "other")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run in whose place for figures and samples files stand, and what it printed and said."""
    folder = tmp_path_factory.mktemp("places")
    workdir = folder / "run"
    workdir.mkdir()
    for name in ("figures", "samples", "interpret"):
        (workdir / name).touch()
    argv = tiny.command(tiny.write_text(folder), workdir, sample__prompts="('a',)", train__batch=8)
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        assert launch.main([*argv, "--config.sample.max_new_tokens=2"]) == 0
    return workdir, printed.getvalue(), said.getvalue()


def test_what_follows_a_result_does_not_undo_it(run):
    workdir, printed, said = run
    assert json.loads((workdir / "summary.json").read_text())["status"] == "done"
    assert "warning: the loss figure cannot be drawn" in said and "samples cannot" in said
    assert "validation loss" in printed


def test_a_place_that_cannot_be_written_is_named(run, tmp_path, capsys):
    workdir = run[0]
    (tmp_path / "runs.csv").write_text("params,tokens,loss\n1e6,1e8,4\n2e6,1e8,3.8\n4e6,3e8,3.5\n")
    for place, argv in {
        workdir / "interpret": ["interpret", f"--workdir={workdir}"],
        workdir / "samples" / "x": ["fit", f"--runs={tmp_path / 'runs.csv'}", f"--out={workdir / 'samples' / 'x'}"],
    }.items():
        assert launch.main(argv) == 74
        said = capsys.readouterr().err
        assert str(place) in said and "Traceback" not in said


@pytest.fixture
def read_only(run):
    """The finished run, as on a disk of which nothing can be changed."""
    workdir = run[0]
    refusing, writes = True, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

    def hook(event: str, arguments: tuple) -> None:
        changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
        if refusing and (changes or event == "open" and (arguments[2] or 0) & writes):
            if str(arguments[0]).startswith(str(workdir)):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), arguments[0])

    sys.addaudithook(hook)  # for good, as there is no way to remove one
    yield workdir
    refusing = False


def test_a_run_that_cannot_be_changed_can_be_read(read_only, capsys):
    for words in (["eval"], ["sample", "--prompt=a", "--sample.max_new_tokens=2"]):
        assert launch.main([words[0], f"--workdir={read_only}", *words[1:]]) == 0, capsys.readouterr().err
    with pytest.raises(OSError, match="Read-only"):
        (read_only / "x").touch()


def test_a_storage_fault_anywhere_is_none_of_ours(capsys, monkeypatch):
    monkeypatch.setattr("gpt_jax.train.loop.train", lambda *_: open("/proc/no/such/file", "w"))
    assert launch.main(["train", "--config=quickstart", "--workdir=/tmp/x"]) == 74
    assert "/proc/no/such/file" in capsys.readouterr().err


def test_a_place_for_slurm_is_quoted():
    text = slurm.script("my run", f"{slurm.escaped(Path('/my runs/50%'))}/task-%a.txt", ["python"])
    assert "#SBATCH --job-name='my run'\n#SBATCH --output='/my runs/50%%/task-%a.txt'\n" in text


def test_a_device_or_a_pipe_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    storage.write_atomically(pipe, "text")
    assert os.read(reader, 100) == b"text" and pipe.is_fifo()
    os.close(reader)
    inode = os.stat("/dev/null").st_ino
    storage.write_atomically(Path("/dev/null"), "text")
    assert os.stat("/dev/null").st_ino == inode and Path("/dev/null").is_char_device()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_device_that_is_full_is_a_storage_error():
    with pytest.raises(StorageError, match="No space left"):
        storage.write_atomically(Path("/dev/full"), "text")
    assert Path("/dev/full").is_char_device()
