"""The size and style limits that ruff does not know. A file that wants to grow is two concerns."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILE_LINES = 300
FUNCTION_LINES = 60
CONSTRUCTOR_PARAMETERS = 8
ROOM_MODULES = 16  # a room that grows gets sub-rooms

KINDS = ("configs", "processors")  # flat by nature: a file a preset, a file a processor

PACKAGE = sorted((ROOT / "gpt_jax").rglob("*.py"))
SOURCES = [
    *PACKAGE,
    ROOT / "launch.py",
    *sorted((ROOT / "benchmarks").rglob("*.py")),
]


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _nodes(path: Path, *kinds: type) -> list:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)]


def _report(faults: list[str]) -> None:
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


def long_functions(path: Path) -> list[str]:
    faults: list[str] = []
    if path == ROOT / "gpt_jax" / "configs" / "base.py":
        return faults  # a list, not a program: one line a knob
    for node in _nodes(path, ast.FunctionDef, ast.AsyncFunctionDef):
        lines = node.end_lineno - node.lineno + 1
        if lines > FUNCTION_LINES:
            faults.append(f"{path}:{node.lineno}: {node.name} has {lines} lines, {FUNCTION_LINES} are allowed")
    return faults


def wide_constructors(path: Path) -> list[str]:
    faults = []
    for cls in _nodes(path, ast.ClassDef):
        for node in cls.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
                if count > CONSTRUCTOR_PARAMETERS:
                    limit = f"{CONSTRUCTOR_PARAMETERS} are allowed"
                    faults.append(f"{path}:{node.lineno}: {cls.name}() takes {count} parameters, {limit}")
    return faults


def hidden_defaults(path: Path) -> list[str]:
    """``config.get(key, default)``: a knob that configs/base.py does not list."""
    faults = []
    for node in _nodes(path, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr == "get" and len(node.args) + len(node.keywords) > 1:
            owner = ast.unparse(node.func.value)
            if owner.split(".")[0] in ("c", "cfg", "config") or owner.endswith("config"):
                faults.append(f"{path}:{node.lineno}: {owner}.get with a default; list the knob in configs/base.py")
    return faults


def uninitialised(path: Path) -> list[str]:
    """``jnp.empty`` holds whatever was in memory since JAX 0.11."""
    faults = []
    for node in _nodes(path, ast.Attribute):
        if node.attr in ("empty", "empty_like") and ast.unparse(node.value) in ("jnp", "jax.numpy"):
            faults.append(f"{path}:{node.lineno}: jnp.{node.attr} is uninitialised memory; use jnp.zeros")
    return faults


def test_files_are_short():
    _report([f"{p}: {n} lines, {FILE_LINES} are allowed" for p in SOURCES if (n := _lines(p)) > FILE_LINES])


def crowded_rooms(package: Path) -> list[str]:
    faults = []
    for folder in sorted({path.parent for path in package.rglob("*.py")}):
        modules = [path.name for path in folder.glob("*.py") if path.stem != "__init__"]
        if len(modules) > ROOM_MODULES and folder.name not in KINDS:
            faults.append(f"{folder}: {len(modules)} modules, {ROOM_MODULES} are allowed; give it sub-rooms")
    return faults


def test_rooms_are_small():
    _report([*crowded_rooms(ROOT / "gpt_jax"), *crowded_rooms(ROOT / "benchmarks")])


def test_a_crowded_room_is_named(tmp_path):
    for i in range(ROOM_MODULES + 1):
        (tmp_path / f"m{i}.py").touch()
    assert len(crowded_rooms(tmp_path)) == 1


def test_no_drawer_for_everything():
    _report(
        [f"{p}: name the file after what it holds" for p in SOURCES if p.stem in ("utils", "util", "helpers", "misc")]
    )


@pytest.mark.parametrize("check", [long_functions, wide_constructors, hidden_defaults, uninitialised])
def test_sources(check):
    _report([fault for path in SOURCES for fault in check(path)])


@pytest.mark.parametrize(
    "check, text",
    [
        (long_functions, "def f():\n" + "    x = 1\n" * FUNCTION_LINES),
        (wide_constructors, "class A:\n    def __init__(self, a, b, c, d, e, f, g, *, h, i): ..."),
        (hidden_defaults, "lr = config.optim.get('lr', 1e-3)"),
        (uninitialised, "x = jnp.empty((2, 2))"),
    ],
)
def test_the_checks_can_fail(check, text, tmp_path):
    path = tmp_path / "file.py"
    path.write_text(text)
    assert len(check(path)) == 1
