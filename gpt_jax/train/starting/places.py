"""Where the model is that training starts from: a run, one of its steps, or a directory of Hugging Face's."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.interop import reading, tokenizer
from gpt_jax.run_directory import BEFORE, CONFIG, TOKENIZER, read_config, read_sections
from gpt_jax.storage import local_path
from gpt_jax.train.checkpoint.directory import DIRECTORY, CheckpointDirectory

WHERE = "config.tune.start"
ALLOWED = "a run, such as runs/q, runs/q@500 or runs/q/checkpoints/500, or a Hugging Face directory"
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclasses.dataclass(frozen=True)
class Place:
    """A model on the disk.

    Attributes:
      where: as it was named.
      path: its directory.
      step: of a run; None for the newest, and for a directory of Hugging Face's.
      pretrained: whether it is such a directory.
    """

    where: str
    path: Path
    step: int | None
    pretrained: bool


def find(where: str) -> Place:
    """The model that ``where`` names; no tensor is read.

    Raises:
      UserError: there is no such directory, run or step.
    """
    path, step = split(where)
    if not path.is_dir():
        hub = "a name of the hub has to be downloaded first: hf download NAME --local-dir DIRECTORY"
        raise UserError(
            f"there is no directory {path}",
            where=WHERE,
            allowed=ALLOWED,
            fix=hub if HUB_NAME.fullmatch(where) else "",
        )
    if not (path / CONFIG).is_file():
        raise UserError(f"there is no {CONFIG} in {path}, so it is no model", where=WHERE, allowed=ALLOWED)
    pretrained = "model_type" in read_config(path)
    if pretrained and step is not None:
        raise UserError(f"{path} is a directory of Hugging Face's, and has no steps", where=WHERE, fix=str(path))
    if not pretrained:
        _check_step(path, step)
    return Place(where, path, step, pretrained)


def split(where: str) -> tuple[Path, int | None]:
    """The directory and the step of "runs/q", "runs/q@500" or "runs/q/checkpoints/500"."""
    path = local_path(where, WHERE)
    if path.parent.name == DIRECTORY and path.name.isdecimal():
        return path.parent.parent, int(path.name)
    before, at, step = where.rpartition("@")
    if at and step.isdecimal() and not path.exists():
        return local_path(before, WHERE), int(step)
    return path, None


def _check_step(path: Path, step: int | None) -> None:
    steps = CheckpointDirectory(path / DIRECTORY, keep=0, keep_best=False).steps()
    if not steps and step is None and any((path / DIRECTORY).glob("corrupt-*")):
        return  # for the checkpoints' reader to say which
    if not steps:
        raise UserError(f"there is no checkpoint in {path}", where=WHERE, fix="train that run first")
    if step is not None and step not in steps:
        raise UserError(
            f"there is no checkpoint of step {step} in {path}", where=WHERE, allowed=", ".join(map(str, steps))
        )


def check_other(place: Place, workdir: Path) -> None:
    """
    Raises:
      UserError: what training starts from is the run in ``workdir`` itself.
    """
    if place.path.resolve() == workdir.resolve():
        raise UserError(
            f"{place.where} is the run directory itself", where=WHERE, fix="give the new run another --workdir"
        )


def settings(place: Place, defaults: Mapping[str, Any]) -> Config:
    """The configuration of the model, with the tokenizer that it carries; no tensor is read.

    Args:
      defaults: a complete configuration, whose knobs hold where the model says nothing.

    Raises:
      UserError: the configuration is damaged, or that of a model that cannot be read.
    """
    if place.pretrained:
        return reading.described(place.path, unsaid(defaults), place.path.absolute(), prompts=True)[1]
    config = stored(place.path, defaults)
    if not (place.path / TOKENIZER).is_file():
        return config
    call = f"run(path={str(place.path.absolute())!r})"
    return dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=call))


def unsaid(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults for a directory of Hugging Face's, which says itself what its tokenizer is."""
    return {**defaults, "data": {**defaults["data"], "tokenizer": tokenizer.NONE}}


def stored(path: Path, defaults: Mapping[str, Any]) -> Config:
    """The configuration in a run directory; knobs that the run was made without say what runs did before there were such.

    Raises:
      UserError: it is damaged.
    """
    found = read_sections(path)
    known = {section: {**knobs, **BEFORE.get(section, {})} for section, knobs in defaults.items()}
    return Config.from_dict(
        {section: {**known.get(section, {}), **found.get(section, {})} for section in {**known, **found}}
    )
