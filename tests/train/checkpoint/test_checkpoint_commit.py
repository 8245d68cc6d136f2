"""Checkpoints of runs that are cut off in the middle, and of several processes."""

import contextlib
import functools
import os
import random
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.train.checkpoint import directory, manifest
from tests.train.states import abstract, assert_same, opened, run, saved, state_at


class Cut(BaseException):
    """A power cut: nothing that runs afterwards in the process may count."""


@pytest.mark.parametrize("committed, least", [(False, 16), (True, 2)])
def test_a_cut_at_any_call_to_the_disk_loses_at_most_the_save_under_way(tmp_path, monkeypatch, committed, least):
    """Cut at each call until the checkpoint has its name, or at each after that: how many there are before it varies, as
    orbax writes from several threads."""
    calls = [(os, "rename"), (os, "fsync"), (shutil, "rmtree"), (os, "mkdir"), (directory, "remove")]
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    wanted, last = abstract(state_at(1)), []
    saved(tmp_path / "before", 1, 2, keep=2)
    for nth in range(1, 200):
        workdir, count, named = tmp_path / str(nth), 0, False
        shutil.copytree(tmp_path / "before", workdir)
        checkpoints = opened(workdir)

        def cut(real, *args, workdir=workdir, nth=nth, **kwargs):
            nonlocal count, named
            count += named == committed
            if count >= nth:
                raise Cut
            named |= args[1:2] == (workdir / "checkpoints" / "3",)  # what a rename makes
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            for place, name in calls:
                patch.setattr(place, name, functools.partial(cut, getattr(place, name)))
            try:
                checkpoints.save(3, state_at(3), {"tokens": 300})
                checkpoints._thread.join()
            except Cut:
                pass
        with contextlib.suppress(BaseException):
            checkpoints._checkpointer().close()  # threads of a process that is cut write no more
        again = opened(workdir, keep=2)
        step, found, _ = again.restore(wanted)
        assert step in (2, 3)
        assert_same(found, state_at(step))
        last.append(step)
        again.remove_leftovers()
        again.save(4, state_at(4), {})
        again.close()
        assert sorted(os.listdir(workdir / "checkpoints")) == sorted(map(str, again.steps()))
        assert again.steps() == [step, 4]
        if count < nth:
            break
    assert last == [3 if committed else 2] * (len(last) - 1) + [3] and len(last) > least


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    saved(tmp_path, 1)
    events, fsync, rename, rmtree = [], os.fsync, os.rename, shutil.rmtree

    def log_fsync(descriptor):
        events.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def log_rename(old, new, **kwargs):
        if Path(new).parent == tmp_path / "checkpoints":  # not orbax's own
            events.append(("rename", f"{old} {new}"))
        rename(old, new, **kwargs)

    def log_rmtree(path, **kwargs):
        events.append(("remove", str(path)))
        rmtree(path, **kwargs)

    monkeypatch.setattr(os, "fsync", log_fsync)
    monkeypatch.setattr(os, "rename", log_rename)
    monkeypatch.setattr(shutil, "rmtree", log_rmtree)
    saved(tmp_path, 2, keep=1)
    commit = next(i for i, (kind, what) in enumerate(events) if kind == "rename" and what.endswith("/checkpoints/2"))
    staging = Path(events[commit][1].split()[0])
    synced = [path for kind, path in events[:commit] if kind == "fsync"]
    whole = tmp_path / "checkpoints/2"
    for path in [whole, *whole.rglob("*")]:
        assert str(staging / path.relative_to(whole)) in synced, path
    seal = synced.index(str(staging / manifest.SEAL))
    assert all(synced.index(str(staging / file)) < seal for file in manifest.read(whole).files)
    assert events[commit + 1] == ("fsync", str(tmp_path / "checkpoints"))
    assert [kind for kind, what in events if "/checkpoints/1 " in what or "trash-1" in what] == ["rename", "remove"]
    assert min(i for i, (_, what) in enumerate(events) if "trash-1" in what) > commit + 1


SAVER = """
    import sys
    from gpt_jax.train.checkpoint.checkpoints import Checkpoints
    import jax, numpy as np
    checkpoints = Checkpoints(sys.argv[1], 2, False)
    at = lambda step: {"step": jax.device_put(np.int32(step)), "w": jax.device_put(np.full(200_000, step, np.float32))}
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), at(0))
    start, state, _ = checkpoints.restore(abstract) or (0, at(0), {})
    assert (np.asarray(state["w"]) == start).all() and state["step"] == start
    print(start, flush=True)
    for step in range(start + 1, start + 100_000):
        checkpoints.save(step, at(step), {})
        print(step - 1, flush=True)  # the one before is committed
"""


def test_kills_in_the_middle_of_saves_lose_nothing_committed(tmp_path):
    choice, committed = random.Random(0), 0
    for _ in range(5):
        process = run(SAVER, str(tmp_path))
        first = process.stdout.readline()
        assert first, process.stderr.read()
        assert int(first) >= committed
        first += process.stdout.readline() + process.stdout.readline()  # however busy the machine is
        time.sleep(choice.uniform(0.3, 2.0))
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, err
        committed = int((first + out).split()[-1])
    assert committed > 5
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {
        "step": jax.ShapeDtypeStruct((), jnp.int32, sharding=sharding),
        "w": jax.ShapeDtypeStruct((200_000,), jnp.float32, sharding=sharding),
    }
    step, found, _ = opened(tmp_path).restore(wanted)
    assert step >= committed and (np.asarray(found["w"]) == step).all()
    assert not list((tmp_path / "checkpoints").glob("corrupt-*"))


PAIR = """
    import sys, os
    import jax, numpy as np
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[3]))
    from jax.sharding import NamedSharding, PartitionSpec as P
    from gpt_jax.errors import StorageError
    from gpt_jax.train.checkpoint.checkpoints import Checkpoints
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    def at(step):
        rows = NamedSharding(mesh, P("data"))
        w = np.arange(64, dtype=np.float32).reshape(8, 8) + step
        whole = jax.device_put(np.int32(step), NamedSharding(mesh, P()))
        return {"step": whole, "w": jax.make_array_from_callback(w.shape, rows, lambda i: w[i])}
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), at(0))
    checkpoints = Checkpoints(sys.argv[1], 2, True)
    assert checkpoints.restore(abstract) is None
    for step in (1, 2):
        checkpoints.save(step, at(step), {"step": step})
    checkpoints.wait()
    assert checkpoints.steps() == [1, 2]
    from jax.experimental import multihost_utils
    multihost_utils.sync_global_devices("all have looked")
    if jax.process_index() == 0:
        with open(checkpoints.directory / "2/manifest.json", "ab") as file:
            file.write(b" ")
    step, state, meta = checkpoints.restore(abstract)
    assert step == 1 and meta == {"step": 1} and int(state["step"]) == 1
    for x, y in zip(state["w"].addressable_shards, at(1)["w"].addressable_shards):
        assert (np.asarray(x.data) == np.asarray(y.data)).all()
    bump = jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)
    bump(state)
    assert state["w"].is_deleted()
    try:
        checkpoints.restore(abstract, step=7)
    except Exception as error:
        print(type(error).__name__)
    multihost_utils.sync_global_devices("all have looked")
    if jax.process_index() == 0:  # the commit fails in process 0 alone; both hear of it
        from gpt_jax.train.checkpoint import directory, manifest
        def no_space(*_):
            raise OSError("No space left on device")
        manifest.write = no_space
    checkpoints.save(3, at(3), {})
    try:
        checkpoints.wait()
    except StorageError as error:
        print("heard")
    checkpoints.close()
    print(*sorted(os.listdir(checkpoints.directory)))
"""


def test_two_processes_save_and_restore_together(tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    processes = [run(PAIR, str(tmp_path), port, str(rank)) for rank in range(2)]
    for rank, process in enumerate(processes):
        out, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
        assert out.split()[-4:] == [["UserError", "StorageError"][rank], "heard", "1", "corrupt-2-0"], out + err
