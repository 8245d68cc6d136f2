"""The directory of a run's checkpoints: which there are, which is the newest intact one, which are kept."""

import logging
import math
import os
import secrets
import shutil
import time
from pathlib import Path

from gpt_jax.errors import StorageError, UserError
from gpt_jax.storage import sync_directory
from gpt_jax.train.checkpoint import manifest
from gpt_jax.train.checkpoint.manifest import Manifest

DIRECTORY = "checkpoints"  # of a run directory
_log = logging.getLogger(__name__)


class CheckpointDirectory:
    """Checkpoints by name: ``<k>`` complete, ``tmp-*`` being written, ``trash-*`` being removed, ``corrupt-*`` damaged.

    Args:
      directory: where they lie; it need not exist.
      keep: how many of the newest ``remove_old`` leaves.
      keep_best: whether it also leaves the one with the lowest ``valid_loss`` (see ``Manifest``).

    Attributes:
      losses: step -> ``valid_loss``, of evaluations that came after the save.
    """

    def __init__(self, directory: Path, keep: int, keep_best: bool):
        self.directory = directory
        self._keep, self._keep_best = keep, keep_best
        self.losses: dict[int, float] = {}

    def steps(self) -> list[int]:
        """The committed steps, oldest first.

        Raises:
          StorageError: the directory cannot be read.
        """
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(
                f"the checkpoints cannot be listed: {error.strerror}", where=str(self.directory)
            ) from error
        return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)

    def path(self, step: int) -> Path:
        """The directory of the checkpoint after ``step`` updates."""
        return self.directory / str(step)

    def commit(self, staging: Path, step: int) -> None:
        """Gives a finished directory its name, durably, and then removes those not to be kept."""
        os.rename(staging, self.path(step))
        sync_directory(self.directory)
        self._remove_old()

    def remove_leftovers(self) -> None:
        """What killed runs were writing or removing. The caller holds the lock of the run directory."""
        for pattern in ("tmp-*", "trash-*"):
            for path in self.directory.glob(pattern):
                remove(path)

    def verified(self, step: int) -> Manifest:
        """The manifest of a step, every byte of it verified.

        Raises:
          UserError: there is no such step.
          StorageError: it is damaged.
        """
        if step not in self.steps():
            known = ", ".join(map(str, self.steps())) or "none"
            raise UserError(f"there is no checkpoint of step {step}", where=str(self.directory), allowed=known)
        return manifest.verify(self.path(step))

    def newest_valid(self) -> Manifest | None:
        """The manifest of the newest step that verifies; damaged ones are renamed. None: nothing was ever saved.

        Raises:
          StorageError: checkpoints were saved and none is intact.
        """
        while steps := self.steps():
            try:
                return manifest.verify(self.path(steps[-1]))
            except StorageError as error:
                self._set_aside(steps[-1], error)
        damaged = sorted(path.name for path in self.directory.glob("corrupt-*"))
        if damaged:
            raise StorageError(
                f"every checkpoint is damaged: {', '.join(damaged)}",
                where=str(self.directory),
                fix="put back a copy of one under its step's name, or remove them all to start again from step 0",
            )
        return None

    def _set_aside(self, step: int, error: StorageError) -> None:
        number = len(list(self.directory.glob(f"corrupt-{step}-*")))
        aside = self.directory / f"corrupt-{step}-{number}"
        try:
            os.rename(self.path(step), aside)
        except FileNotFoundError:
            return  # a training run removed it while it was being read
        except OSError as refusal:
            raise error from refusal  # a run directory that cannot be written: its owner has to look at it
        _log.warning("%s; renamed to %s, using the checkpoint before it", error.what, aside.name)

    def _remove_old(self) -> None:
        steps = self.steps()
        kept = set(steps[-self._keep :])
        if self._keep_best:
            losses = {step: self._valid_loss(step) for step in steps}
            kept |= set(sorted((s for s in steps if math.isfinite(losses[s])), key=lambda s: (losses[s], s))[:1])
        for step in steps:
            if step not in kept:
                trash = self.directory / f"trash-{step}-{secrets.token_hex(4)}"
                os.rename(self.path(step), trash)  # at once, so that nobody reads a half-removed checkpoint
                remove(trash)

    def _valid_loss(self, step: int) -> float:
        try:
            loss = manifest.read(self.path(step)).valid_loss
        except StorageError:
            return math.inf
        return self.losses.get(step, math.inf) if loss is None else loss


def remove(directory: Path, looks: int = 1) -> None:
    """Removes a directory.

    Args:
      looks: times in a row that it has to be seen gone; the last threads of a failed save make it anew.
    """
    gone = 0
    for _ in range(20 + looks):
        shutil.rmtree(directory, ignore_errors=True)
        gone = 0 if directory.exists() else gone + 1
        if gone == looks:
            return
        time.sleep(0.05)
    _log.warning("%s could not be removed", directory)
