"""What `make docs` needs beyond MkDocs: pages of files outside docs/, links to them, and the reference from docstrings."""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PACKAGE = ROOT / "gpt_jax"
PAGES = (ROOT / "README.md", ROOT / "experiments" / "README.md")
PRESETS = PACKAGE / "configs"  # a function each, without a docstring
CODE_OR_LINK = re.compile(r"(?P<code>^```.*?^```|`[^`\n]*`)|\]\((?P<target>[^)\s#]+)(?P<rest>[^)]*)\)", re.M | re.S)
ASSETS = (".png", ".svg", ".ipynb")  # copied as they are


def on_config(config: Any) -> Any:
    """The navigation ends with a page for each package."""
    config.nav.append({"Reference": [{name: f"reference/{name}.md"} for name in _packages()]})
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the pages of other folders, whatever a page links to in the repository, and the reference."""
    waiting = [*(file for file in files.documentation_pages()), *(_file(path, config) for path in PAGES)]
    while waiting:
        file = waiting.pop()
        if file.src_uri not in files.src_uris:
            files.append(file)
        linked = (_file(path, config) for path in _linked(file))
        waiting += [other for other in linked if other.src_uri not in files.src_uris]
    for name, folder in _packages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=_reference(name, folder)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links lead to where the site has what they lead to in the repository; others are left for MkDocs to refuse."""
    folder = _folder(page.file.src_uri)
    if folder is None:
        return markdown

    def moved(link: re.Match) -> str:
        path = _target(link, folder)
        if path is None:
            return link[0]
        return f"]({os.path.relpath(_place(path), Path(page.file.src_uri).parent)}{link['rest']})"

    return CODE_OR_LINK.sub(moved, markdown)


def _target(link: re.Match, folder: Path) -> Path | None:
    """The file of the repository that a link leads to, if one does."""
    if link["target"] is None or ":" in link["target"]:
        return None
    path = (folder / link["target"]).resolve()
    return path if path.is_file() and path.is_relative_to(ROOT) else None


def _linked(file: File) -> list[Path]:
    folder = _folder(file.src_uri)
    if folder is None or not file.is_documentation_page():
        return []
    return [path for link in CODE_OR_LINK.finditer(file.content_string) if (path := _target(link, folder))]


def _place(path: Path) -> str:
    """Where the site has a file of the repository, as MkDocs names its sources: code is a page."""
    inside = path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT).as_posix()
    return inside if path.suffix in (".md", *ASSETS) else f"{inside}.md"


def _folder(place: str) -> Path | None:
    """Of the Markdown file of the repository that a page is, to which its links are relative; None if it is made here."""
    return next(((top / place).parent for top in (DOCS, ROOT) if (top / place).is_file()), None)


def _file(path: Path, config: Any) -> File:
    place = _place(path)
    if path.suffix in (".md", *ASSETS):
        return File.generated(config, place, abs_src_path=str(path))
    name = path.relative_to(ROOT).as_posix()
    text = f"---\nsearch: {{exclude: true}}\n---\n# {name}\n\n````{path.suffix[1:]}\n{path.read_text('utf-8')}````\n"
    return File.generated(config, place, content=text)


def _packages() -> dict[str, Path]:
    """The package and those below it by their dotted names, presets apart."""
    folders = sorted(file.parent for file in PACKAGE.rglob("__init__.py"))
    return {".".join(folder.relative_to(ROOT).parts): folder for folder in folders if folder != PRESETS}


def _reference(name: str, folder: Path) -> str:
    modules = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    parts = "".join(f"::: {name}.{module}\n\n" for module in modules)
    return f"# {name}\n\n::: {name}\n    options: {{members: false, show_root_heading: false}}\n\n{parts}"
