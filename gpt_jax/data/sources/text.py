"""UTF-8 text files."""

import glob
import os
from pathlib import Path

from gpt_jax.config import Config
from gpt_jax.data.documents import Documents, from_files
from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.storage import local_path


@register("data.sources", "text", reads=("*", "/"))
def text(config: Config, *, path: str) -> Documents:
    """A file, a folder (all files below it, hidden ones apart) or a glob such as "notes/**/*.md"; a file is a document.

    Raises:
      UserError: nothing there, nothing in it, or a file that is not UTF-8 text.
    """
    base, files = _find(local_path(path, "config.data.source"))
    if not files:
        raise UserError(
            f"{path} is a folder without files" if base.is_dir() else f"{path} does not exist",
            where="config.data.source",
            allowed="a file, a folder or a glob of UTF-8 text files",
        )
    named = sorted((file.relative_to(base).as_posix(), file) for file in files)
    documents = from_files([file for _, file in named], [name for name, _ in named])
    if not documents.names:
        raise UserError(f"{path} is empty: {len(files)} file(s) of 0 bytes", where="config.data.source")
    return documents


def _find(path: Path) -> tuple[Path, list[Path]]:
    """(folder that names are relative to, files); a path to nothing gives itself and no files."""
    if path.is_dir():
        below = [file for file in path.rglob("*") if file.is_file()]
        return path, [file for file in below if not any(p.startswith(".") for p in file.relative_to(path).parts)]
    if path.exists():
        return path.parent, [path]
    files = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]
    return (Path(os.path.commonpath([file.parent for file in files])), files) if files else (path, [])
