"""What the documents name exists: links, files, verbs of launch.py, targets of the Makefile."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if p.exists()]
ROOMS = ("gpt_jax", "benchmarks", "tests", "docs", "experiments", "requirements")

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```|^ {4}\S.*?$", re.MULTILINE | re.DOTALL)  # or an indented block
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(rf"(?:{'|'.join(ROOMS)})/[\w./-]*|[\w-]+\.(?:py|md|txt|toml)|Makefile")
LAUNCH = re.compile(r"launch\.py +(\w+)")
MAKE = re.compile(r"(?:^|[$&;])\s*make +([a-z][\w-]*)", re.MULTILINE)
# Files a reader is told to write: a document says so in the heading above or in the same line.
NEW = re.compile(r"\b(?:new|your own|write|create|add)\b", re.IGNORECASE)


def broken_links(text: str, folder: Path) -> list[str]:
    targets = [t.split("#")[0] for t in LINK.findall(text) if not re.match(r"[a-z]+:|#", t)]
    return [t for t in targets if t and not (folder / t).exists()]


def missing_files(text: str, folder: Path) -> list[str]:
    """Paths in `code` that are neither in the repository nor beside the document."""
    known = {p.name for room in ROOMS for p in (ROOT / room).rglob("*") if p.is_file()}
    faults, heading = [], ""
    for line in FENCE.sub("", text).splitlines():
        heading = line if line.startswith("#") else heading
        if NEW.search(line) or NEW.search(heading):
            continue
        for code in CODE.findall(line):
            path = code.split(":")[0]
            if PATH.fullmatch(path) and path not in known and not any((top / path).exists() for top in (ROOT, folder)):
                faults.append(path)
    return faults


def unknown_names(pattern: re.Pattern, text: str, known: set[str]) -> list[str]:
    """What commands in fences and in `code` call that is not known; prose may say "make" as it likes."""
    code = [*FENCE.findall(text), *CODE.findall(FENCE.sub("", text))]
    return [name for part in code for name in pattern.findall(part) if name not in known]


@pytest.fixture(scope="module")
def verbs() -> set[str]:
    shown = subprocess.run(
        [sys.executable, "launch.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    return set(re.findall(r"\b[a-z]+\b", shown.stdout + shown.stderr))


@pytest.fixture(scope="module")
def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())


def test_there_is_a_readme():
    assert (ROOT / "README.md").exists()


@pytest.mark.parametrize("doc", DOCS, ids=lambda p: p.name)
def test_links_and_files_exist(doc):
    text = doc.read_text(encoding="utf-8")
    assert not broken_links(text, doc.parent)
    assert not missing_files(text, doc.parent)


@pytest.mark.parametrize("doc", DOCS, ids=lambda p: p.name)
def test_commands_exist(doc, verbs, targets):
    text = doc.read_text(encoding="utf-8")
    assert not unknown_names(LAUNCH, text, verbs)
    assert not unknown_names(MAKE, text, targets)


def test_make_help_lists_every_target(targets):
    shown = subprocess.run(["make", "help", f"PYTHON={sys.executable}"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert targets - {"help", "interpreter"} <= set(re.findall(r"make ([\w-]+)", shown.stdout))


def test_the_checks_can_fail(tmp_path):
    text = "See [there](no/such.md), `gpt_jax/nothing.py` and `make peace`.\nWe\nmake sense.\n"
    text += "```\nmake nonsense\n```\n\n    python launch.py fly\n    make haste\n\n"
    text += "## Your own file\n`gpt_jax/idea.py`, `make test`\n"
    assert broken_links(text, tmp_path) == ["no/such.md"]
    assert missing_files(text, tmp_path) == ["gpt_jax/nothing.py"]
    assert unknown_names(LAUNCH, text, {"train"}) == ["fly"]
    assert unknown_names(MAKE, text, {"test"}) == ["nonsense", "haste", "peace"]
