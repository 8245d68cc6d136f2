"""The model that a run learns from (``objectives.Objective.teacher``): found when the run starts, and the same ever after.

teacher.json in the run directory says which checkpoint it is, so that a run of a teacher that is trained on resumes with
the one it began with.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from gpt_jax.config import Config
from gpt_jax.data.open import Data
from gpt_jax.errors import UserError
from gpt_jax.mesh import rules
from gpt_jax.model import layout
from gpt_jax.storage import read_json, write_json
from gpt_jax.train.forward import FixedModel
from gpt_jax.train.starting import places, start
from gpt_jax.train.starting.start import Start

NAME = "teacher.json"
WHERE = "config.tune.objective"
_FIELDS: dict[str, Any] = {"teacher": str, "step": int, "digest": str}


def read(where: str, config: Config, workdir: Path) -> Start:
    """The teacher of a run: the model that ``where`` names, in the step that the run began with.

    Raises:
      UserError: there is no such model, or it is another one than the run began with.
    """
    known = read_json(workdir / NAME, missing={}, fields=_FIELDS)
    path, step = places.split(where)
    pinned = f"{path}@{known['step']}" if known and step is None and known["step"] else where
    try:
        found = start.read(pinned, config.to_dict())
    except UserError as error:
        raise UserError(error.what, where=WHERE, allowed=error.allowed, fix=error.fix) from None
    if known and found.digest != known["digest"]:
        raise UserError(
            f"the teacher {pinned} is not the one that this run began with",
            where=str(workdir / NAME),
            fix="put it back as it was, or use another --workdir for a new run",
        )
    return found


def keep(found: Start, where: str, workdir: Path) -> None:
    """Writes teacher.json."""
    write_json(workdir / NAME, {"teacher": where, "step": found.step, "digest": found.digest})


def ids(found: Start, config: Config, data: Data) -> int:
    """How many ids mean the same to the teacher and the run.

    Raises:
      UserError: they do not read the same tokens, or the teacher reads fewer of them at once.
    """
    theirs, ours = found.tokenizer, data.tokenizer
    if ours is not None and (theirs is None or theirs.fingerprint != ours.fingerprint):
        raise UserError(
            f"the teacher {found.where} reads other tokens than this run",
            where=WHERE,
            allowed="a teacher with the tokenizer of config.data.tokenizer",
            fix="data.tokenizer = file(path=…) takes the teacher's tokenizer.json",
        )
    if found.model.vocab < data.vocab:
        raise UserError(
            f"the teacher {found.where} has {found.model.vocab} ids, and the data {data.vocab}", where=WHERE
        )
    if found.model.context < config.model.context:
        raise UserError(
            f"the teacher {found.where} reads {found.model.context} tokens, and rows have {config.model.context}",
            where="config.model.context",
            allowed=f"up to {found.model.context}",
        )
    known = min(found.model.vocab, config.model.vocab)
    return known if ours is None else min(known, ours.vocab)


def placed(found: Start, known: int, config: Config, mesh: Mesh) -> FixedModel:
    """The teacher on the mesh, as steps read it.

    Args:
      known: what ``ids`` gives.
    """
    model = dataclasses.replace(found.model, attend="auto", remat="none")
    params = start.mapped(found, model)
    live = params if model.scan else layout.unstack(params, len(model.attentions))
    shardings = rules.shardings(live, mesh, config.mesh.rules, bool(model.scan))
    return FixedModel(jax.device_put(live, shardings), model, known)
