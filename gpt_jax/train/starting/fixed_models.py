"""Models that a run reads and does not train: a teacher, the reference of a policy, or models that reward it. They are found
when the run starts, and the same ever after.

A file in the run directory says which checkpoint it is, so that a run of a teacher that is trained on resumes with the one
it began with.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from gpt_jax.config import Config, ModelConfig
from gpt_jax.data.open import Data
from gpt_jax.errors import UserError
from gpt_jax.mesh import rules
from gpt_jax.model import gpt, layout
from gpt_jax.storage import read_json, write_json
from gpt_jax.train.forward import FixedModel
from gpt_jax.train.starting import places, start
from gpt_jax.train.starting.start import Start

_FIELDS: dict[str, Any] = {"step": int, "digest": str}


@dataclasses.dataclass(frozen=True)
class Role:
    """What a model is to a run: a word for it, the knob that names it, and the file that pins it."""

    word: str
    where: str

    @property
    def file(self) -> str:
        return f"{self.word}.json"


TEACHER = Role("teacher", "config.tune.objective")
REFERENCE = Role("reference", "config.tune.reference")


@dataclasses.dataclass(frozen=True)
class Held:
    """A checkpoint that a run reads: what for, how it was named, and which it is."""

    role: Role
    where: str
    step: int
    digest: str

    def keep(self, workdir: Path) -> None:
        """Writes the file that holds the run to it."""
        write_json(workdir / self.role.file, {self.role.word: self.where, "step": self.step, "digest": self.digest})


@dataclasses.dataclass(frozen=True)
class Pin:
    """Finds the checkpoint that a run began with.

    Attributes:
      workdir: of the run; None for no run.
    """

    role: Role
    workdir: Path | None

    @functools.cached_property
    def _known(self) -> dict[str, Any]:
        return {} if self.workdir is None else read_json(self.workdir / self.role.file, missing={}, fields=_FIELDS)

    def named(self, where: str) -> str:
        """``where`` with the step that the run began with, where it names none."""
        path, step = places.split(where)
        return f"{path}@{self._known['step']}" if self._known and step is None and self._known["step"] else where

    def held(self, where: str, step: int, digest: str) -> Held:
        """
        Raises:
          UserError: what was read is not what the run began with.
        """
        if self._known and digest != self._known["digest"]:
            raise UserError(
                f"the {self.role.word} {self.named(where)} is not the one that this run began with",
                where=f"{self.workdir}/{self.role.file}",
                fix="put it back as it was, or use another --workdir for a new run",
            )
        return Held(self.role, where, step, digest)


def read(role: Role, where: str, config: Config, workdir: Path) -> Start:
    """The model that ``where`` names, in the step that the run began with.

    Raises:
      UserError: there is no such model, or it is another one than the run began with.
    """
    pin = Pin(role, workdir)
    with _naming(role):
        found = start.read(pin.named(where), config.to_dict())
    pin.held(where, found.step, found.digest)
    return found


def planned(role: Role, where: str, config: Config, mesh: Mesh) -> FixedModel:
    """The model that ``where`` names as shapes with their shardings; its tensors are not read. Errors as of ``read``."""
    with _naming(role):
        model = places.settings(places.find(where), config.to_dict()).model
    model = as_read(model)
    shapes = jax.eval_shape(lambda: gpt.init(model, jax.random.key(0)))
    shardings = rules.shardings(shapes, mesh, config.mesh.rules, bool(model.scan))
    placed = jax.tree.map(lambda leaf, of: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=of), shapes, shardings)
    return FixedModel(placed, model, min(model.vocab, config.model.vocab))


def ids(role: Role, found: Start, config: Config, data: Data) -> int:
    """How many ids mean the same to the model and the run.

    Raises:
      UserError: they do not read the same tokens, or the model reads fewer of them at once.
    """
    theirs, ours = found.tokenizer, data.tokenizer
    if ours is not None and (theirs is None or theirs.fingerprint != ours.fingerprint):
        raise UserError(
            f"the {role.word} {found.where} reads other tokens than this run",
            where=role.where,
            allowed=f"a {role.word} with the tokenizer of config.data.tokenizer",
            fix="data.tokenizer = file(path=…) takes its tokenizer.json",
        )
    if found.model.vocab < data.vocab:
        raise UserError(
            f"the {role.word} {found.where} has {found.model.vocab} ids, and the data {data.vocab}", where=role.where
        )
    if found.model.context < config.model.context:
        raise UserError(
            f"the {role.word} {found.where} reads {found.model.context} tokens, and rows have {config.model.context}",
            where="config.model.context",
            allowed=f"up to {found.model.context}",
        )
    known = min(found.model.vocab, config.model.vocab)
    return known if ours is None else min(known, ours.vocab)


def placed(found: Start, known: int, config: Config, mesh: Mesh) -> FixedModel:
    """The model on the mesh, as programs read it.

    Args:
      known: what ``ids`` gives.
    """
    model = as_read(found.model)
    params = start.mapped(found, model)
    live = params if model.scan else layout.unstack(params, len(model.attentions))
    shardings = rules.shardings(live, mesh, config.mesh.rules, bool(model.scan))
    return FixedModel(jax.device_put(live, shardings), model, known)


def as_read(model: ModelConfig) -> ModelConfig:
    """How the model is computed where it has no gradient."""
    return dataclasses.replace(model, attend="auto", remat="none")


@contextlib.contextmanager
def _naming(role: Role) -> Iterator[None]:
    """Errors name the knob of the role."""
    try:
        yield
    except UserError as error:
        raise UserError(error.what, where=role.where, allowed=error.allowed, fix=error.fix) from None
