"""Losses of published packages to compare ours with: single functions, taken out of their wheels, which need torch alone.

A wheel is downloaded once, into .cache/oracles, and never installed. Tests that want one skip where it cannot be had.
"""

import __future__

import ast
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "oracles"
PATIENCE = 120  # seconds for a download


def taken(pin: str, file: str, name: str, digest: str, **names: Any) -> Callable:
    """A function or class of a package, without its decorators and annotations.

    Args:
      pin: "trl==0.11.4".
      file: its path within the package's wheel.
      name: "function", or "Class.method", which then takes whatever stands for self.
      digest: the first 12 digits of the SHA-256 of its source: another version fails loudly.
      names: what its code refers to.
    """
    text = source(pin, file)
    node = _find(ast.parse(text), name)
    segment = ast.get_source_segment(text, node)
    assert segment is not None
    found = hashlib.sha256(segment.encode()).hexdigest()[:12]
    assert found == digest, f"{name} of {pin} has the digest {found}, not {digest}: read it again"
    node.decorator_list = []
    code = compile(ast.Module([node], []), file, "exec", flags=__future__.annotations.compiler_flag)
    namespace = dict(names)
    exec(code, namespace)
    return namespace[node.name]


def source(pin: str, file: str) -> str:
    """The text of a file in a package's wheel; skips the test where the wheel cannot be had."""
    with zipfile.ZipFile(wheel(pin)) as opened:
        return opened.read(file).decode()


@functools.cache
def wheel(pin: str) -> Path:
    """The wheel of "name==version", downloaded if need be; skips the test where no registry is reachable."""
    pytest.importorskip("torch")
    name, version = pin.split("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if found := sorted(FOLDER.glob(pattern)):
        return found[0]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:  # several test processes may download at once
        options = ["--no-deps", "--only-binary=:all:", "--retries=0", "--timeout=10", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", *options, f"--dest={folder}", pin]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.skip(f"{pin} is not here, and its download takes too long")
        fetched = list(Path(folder).glob(pattern))
        if not fetched:
            pytest.skip(f"{pin} is not here and cannot be downloaded: {done.stderr.strip()[-200:]}")
        os.replace(fetched[0], FOLDER / fetched[0].name)
    return FOLDER / fetched[0].name


def _find(tree: ast.Module, name: str) -> Any:
    body: Any = tree.body
    node: Any = None
    for part in name.split("."):
        node = next(n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part)
        body = node.body
    return node
