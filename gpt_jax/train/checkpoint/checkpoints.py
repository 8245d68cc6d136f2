"""Checkpoints, written by orbax; one exists once its manifest is on disk and its directory has its final name.

Order of a save: arrays into a directory of our own (``tmp-*``), manifest, fsync of all, one rename to ``<k>``, fsync of
the parent, and only then are older ones removed. A kill at any point leaves the checkpoints before it as they were.
Label ``<k>`` is the number of completed updates. In a run of several processes every method is called by all of them.
"""

import contextlib
import errno
import logging
import os
import secrets
import shutil
import threading
from pathlib import Path
from typing import Any

import jax

from gpt_jax.errors import StorageError, UserError
from gpt_jax.mesh import collectives
from gpt_jax.train.checkpoint import manifest
from gpt_jax.train.checkpoint.directory import DIRECTORY, CheckpointDirectory, remove
from gpt_jax.train.checkpoint.manifest import Manifest

_ARRAYS = "state"  # the directory orbax writes
_NOTHING, _FAILED = -1, -2  # process 0 to the others, instead of a step
_FULL = [os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
_REFUSALS = [*_FULL, *(os.strerror(n) for n in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EIO))]
LOOKS = 6  # 0.3 s without a write: then the threads of a failed save have ended, but for a machine that has no time


class Checkpoints:
    """The checkpoints of a run directory, written in the background and used only when every byte verifies.

    Args:
      workdir: the run directory; checkpoints are in ``workdir/checkpoints/<k>``.
      keep: how many of the newest are kept.
      keep_best: also keep the one with the lowest ``valid_loss`` (see ``Manifest``).

    A reader (evaluation, sampling) needs no lock: nothing is cleaned up but by ``remove_leftovers``.
    """

    def __init__(self, workdir: str | Path, keep: int, keep_best: bool):
        self.directory = Path(workdir).absolute() / DIRECTORY
        self._committed = CheckpointDirectory(self.directory, keep, keep_best)
        self._orbax: Any = None
        self._thread: threading.Thread | None = None
        self._error: StorageError | None = None
        self._failed: list[Path] = []  # directories of saves

    def remove_leftovers(self) -> None:
        """What killed runs were writing or removing. The lock of the run directory is held."""
        if jax.process_index() == 0:
            self._committed.remove_leftovers()

    def steps(self) -> list[int]:
        """The committed steps, oldest first."""
        return self._committed.steps()

    def evaluated(self, step: int, valid_loss: float) -> None:
        """Says what an evaluation gave of a step that may have been saved before it."""
        self._committed.losses[step] = valid_loss

    def save(self, step: int, state: Any, meta: dict[str, Any], valid_loss: float | None = None) -> None:
        """Starts writing the state after ``step`` updates; returns when its arrays may be donated.

        A step that is already there is left as it is: the state is a function of the configuration and the step.
        Waits for the save before it, if that is still under way.

        Raises:
          StorageError: this save, or the one before it, could not be written; nothing of it is left behind.
        """
        self.wait()
        listed = manifest.describe(state, step=step, meta=meta, valid_loss=valid_loss)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        staging = self._stage(step, size)
        if staging is None:
            return
        try:
            self._checkpointer().save(staging / _ARRAYS, _nested(state))
        except Exception as error:
            self._drop_checkpointer()
            remove(staging, LOOKS)
            raise self._failure(step, size, error) from error
        self._thread = threading.Thread(target=self._finish, args=(staging, listed, size), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Returns when no save is under way.

        Raises:
          StorageError: the last save failed (in any process).
        """
        if self._thread is None:
            return
        error = self._join()
        failed = collectives.all_reduce_max(int(error is not None))
        if error is not None:
            raise error
        if failed:
            raise StorageError("another process could not save its part of the checkpoint", where=str(self.directory))

    def close(self) -> None:
        """Waits for this process's part of the last save and ends the threads of orbax.

        It asks nothing of other processes, so that one which fails can end alone.

        Raises:
          StorageError: the last save failed.
        """
        error = self._join()
        if self._orbax is not None:
            self._orbax.close()
            self._orbax = None
        for staging in self._failed:  # a last thread of it may have written once more
            remove(staging)
        if error is not None:
            raise error

    def restore(self, abstract_state: Any, step: int | None = None) -> tuple[int, Any, dict[str, Any]] | None:
        """The newest intact checkpoint (or that of ``step``) as (step, state, meta); None where nothing was ever saved.

        ``abstract_state`` is a tree of ``ShapeDtypeStruct`` with the shardings wanted now, whatever those saved were.
        A damaged newest checkpoint is renamed to ``corrupt-<k>-<n>`` with a warning and the one before it is used.

        Raises:
          UserError: there is no such step, or the saved arrays are not those of ``abstract_state``.
          StorageError: ``step`` is damaged, or every checkpoint is.
        """
        self.wait()
        while True:
            chosen = self._choose(step)
            if chosen is None:
                return None
            directory = self._committed.path(chosen.step)
            manifest.check_leaves(chosen, abstract_state, directory)
            try:
                arrays = self._checkpointer().restore(directory / _ARRAYS, _nested(abstract_state))
            except jax.errors.JaxRuntimeError:
                raise  # out of memory, for example: not the disk's fault
            except Exception as error:
                if step is None and jax.process_count() == 1 and not directory.exists():
                    continue  # a training run removed it while it was being read; there is a newer one
                raise StorageError(f"orbax cannot read a verified checkpoint: {error}", where=str(directory)) from error
            return chosen.step, _own(arrays, abstract_state), chosen.meta

    def _join(self) -> StorageError | None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        return error

    def _checkpointer(self) -> Any:
        if self._orbax is None:
            import orbax.checkpoint as ocp  # 0.6 s, wanted only when something is read or written

            for name in ("absl", "asyncio"):
                logging.getLogger(name).addFilter(_is_not_repeated)
            # A directory that cannot be made has to fail the save, not leave its threads waiting for it.
            options = ocp.AsyncOptions(create_directories_asynchronously=False)
            self._orbax = ocp.StandardCheckpointer(async_options=options)
        return self._orbax

    def _drop_checkpointer(self) -> None:
        """Forgets the orbax object of a failed save: it would raise what is left of this failure in the next one."""
        broken, self._orbax = self._orbax, None
        with contextlib.suppress(Exception):
            broken.close()

    def _stage(self, step: int, size: int) -> Path | None:
        """A new empty directory for a save, the same in all processes; None where ``step`` exists."""
        token, failure = _NOTHING, None
        if jax.process_index() == 0:
            try:
                if step not in self.steps():
                    token = secrets.randbits(30)
                    self._staging(step, token).mkdir(parents=True)
            except (OSError, StorageError) as error:
                token, failure = _FAILED, error
        token = collectives.broadcast_from_first(token)
        if token == _FAILED:
            raise self._failure(step, size, failure) from failure
        return None if token == _NOTHING else self._staging(step, token)

    def _staging(self, step: int, token: int) -> Path:
        return self.directory / f"tmp-{step}-{token:08x}"

    def _finish(self, staging: Path, listed: Manifest, size: int) -> None:
        """The part of a save that runs in the background."""
        try:
            self._orbax.wait_until_finished()  # all processes have written
            if jax.process_index() == 0:
                manifest.write(staging, listed)
                self._committed.commit(staging, listed.step)
        except Exception as error:
            self._drop_checkpointer()
            if jax.process_index() == 0:
                remove(staging, LOOKS)
                self._failed.append(staging)
            self._error = self._failure(listed.step, size, error)
            self._error.__cause__ = error

    def _choose(self, step: int | None) -> Manifest | None:
        """The manifest of the checkpoint to read; process 0 reads every byte, the others use its answer."""
        chosen, failure = None, None
        if jax.process_index() == 0:
            try:
                chosen = self._committed.newest_valid() if step is None else self._committed.verified(step)
            except (StorageError, UserError) as error:
                failure = error
        code = collectives.broadcast_from_first(_FAILED if failure else _NOTHING if chosen is None else chosen.step)
        if failure:
            raise failure
        if code == _FAILED:
            raise StorageError("process 0 found no checkpoint to restore", where=str(self.directory))
        return None if code == _NOTHING else chosen or manifest.read(self._committed.path(code))

    def _failure(self, step: int, size: int, error: Exception | None) -> StorageError:
        place = next(path for path in (self.directory, *self.directory.parents) if path.exists())
        text = "process 0 could not write it" if error is None else f"{type(error).__name__}: {error}"
        reason = next((refusal for refusal in _REFUSALS if refusal in text), text.splitlines()[0])
        room = f"{shutil.disk_usage(place).free:,} bytes are free and the state has {size:,}; make room"
        return StorageError(
            f"the checkpoint of step {step} could not be saved: {reason}",
            where=str(self.directory),
            fix=f"{room if reason in _FULL else 'let the directory be written'}, then run the same command again: the"
            " checkpoints before this one are untouched",
        )


def _nested(tree: Any) -> dict[str, Any]:
    """The leaves as nested dicts: the file format does not depend on the classes optimizer states are made of."""
    nested: dict[str, Any] = {}
    for path, leaf in manifest.paths(tree):
        *folders, name = path.split("/")
        node = nested
        for folder in folders:
            node = node.setdefault(folder, {})
        if name in node:
            raise ValueError(f"two leaves of the state have the path {path}")
        node[name] = leaf
    return nested


def _own(arrays: dict[str, Any], abstract_state: Any) -> Any:
    """The restored arrays in the caller's tree, each in a buffer of its own, so that the next step can donate it.

    What orbax hands out may be memory it still shares, which XLA copies instead of reusing. Each is released as soon
    as it is copied, so that no more than one array exists twice.
    """
    flat = []
    for path, abstract in manifest.paths(abstract_state):
        leaf: Any = arrays
        for key in path.split("/"):
            leaf = leaf[key]
        flat.append(jax.block_until_ready(jax.device_put(leaf, abstract.sharding, may_alias=False)))
        if isinstance(leaf, jax.Array):
            leaf.delete()
    return jax.tree.unflatten(jax.tree.structure(abstract_state), flat)


def _is_not_repeated(record: logging.LogRecord) -> bool:
    """False for what orbax, and asyncio of its tasks, log of a failure that is raised as a StorageError or tried again."""
    return not (record.exc_info and ("orbax" in record.pathname or "OCDBT" in record.getMessage()))
