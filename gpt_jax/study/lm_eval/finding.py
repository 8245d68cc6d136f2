"""The harness's tasks by name, and those that a directory holds."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from gpt_jax.errors import UserError, did_you_mean

WHERE = "--tasks"
CLAIMS = re.compile(r"^(task|group):", re.MULTILINE)  # a file that others include has neither
SHOWN = 40


def found(names: Sequence[str]) -> list[Any]:
    """The tasks and groups of these names, as ``lm_eval.simple_evaluate`` takes them, with their documents read.

    Raises:
      UserError: there is no such task, a file is none, its documents cannot be read, or this package cannot run it.
    """
    paths = {name: Path(name).expanduser() for name in names}
    named = [name for name, path in paths.items() if not path.exists()]
    for name in named:
        if "/" in name or name.endswith((".yaml", ".yml")):
            raise UserError(f"there is no file or directory {name}", where=WHERE)
    known = TaskManager() if named else None
    return [
        item
        for name, path in paths.items()
        for item in (_of_path(path) if known is None or name not in named else [_loaded(known, name, name)])
    ]


def _of_path(path: Path) -> list[Any]:
    """All tasks of a directory, or the one of a file."""
    folder = path if path.is_dir() else path.parent
    manager = TaskManager(include_path=str(folder.resolve()), include_defaults=False)
    if path.is_file():
        return [_loaded(manager, str(path.resolve()), str(path))]
    files = sorted(folder.glob("**/*.yaml"))
    entries = {entry.yaml_path: name for name, entry in manager.task_index.items() if entry.yaml_path is not None}
    for file in files:
        if file.resolve() not in entries and CLAIMS.search(file.read_text("utf-8", "replace")):
            _loaded(manager, str(file.resolve()), str(file))  # which says why it is none
            raise UserError("another file of the directory has a task of the same name", where=str(file))
    if not manager.all_subtasks:
        raise UserError(f"no file in {path} is a task", where=WHERE, allowed="files NAME.yaml with a line task: NAME")
    return [_loaded(manager, name, f"{path}: {name}") for name in manager.all_subtasks]


def _loaded(manager: TaskManager, spec: str, shown: str) -> Any:
    known = manager.all_tasks
    if spec not in known and not Path(spec).is_file():
        near = [name for name in known if spec in name][:SHOWN]
        raise UserError(
            f"lm-eval has no task {spec!r}",
            where=WHERE,
            allowed=", ".join(near) or f"one of its {len(known)} tasks: `lm_eval ls tasks` lists them",
            fix=did_you_mean(spec, known),
        )
    try:
        loaded = manager.load(spec)
    except Exception as error:  # of files and functions that are the task's own, and of what downloads its documents
        said = str(error).strip().splitlines() or [""]
        raise UserError(
            f"lm-eval cannot load the task: {type(error).__name__}: {said[0]}",
            where=f"{WHERE}={shown}",
            fix="without a network, a task needs its documents in files: dataset_path: json, with data_files",
        ) from error
    for name, task in loaded["tasks"].items():
        _check(name, task)
    groups = loaded.get("groups", {})
    return groups[spec] if spec in groups else next(iter(loaded["tasks"].values()))


def _check(name: str, task: Any) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise UserError(
            f"{name} runs what the model writes as a programme, without a sandbox",
            where=WHERE,
            fix="choose another task",
        )
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"{name} shows pictures or plays sounds, and a run reads text", where=WHERE)
