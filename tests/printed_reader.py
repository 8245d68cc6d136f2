"""What the documents print to be typed: commands, flags and Python, in the order of the page."""

import dataclasses
import os
import re
import shlex
from collections.abc import Iterator

ASSIGNED = re.compile(r"[A-Z_][A-Z0-9_]*=")
LAUNCHERS = (["python", "launch.py"], ["python", "-m", "gpt_jax"], ["gpt-jax"], ["launch.py"])
LOOSE = re.compile(r"=(\S*…\S*|[A-Z_]+)(?=\s|$)")  # a value left to the reader
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
SHELLS = ("sh", "bash", "")


@dataclasses.dataclass(frozen=True)
class Printed:
    """Something to be typed.

    ``kind``: shell, script (several lines of shell), python, flags, setting (a line of a file of settings), or mention (a
    command in a sentence, without all of its flags).
    """

    kind: str
    text: str
    line: int


def read(text: str) -> Iterator[Printed]:
    """Everything a page prints to be typed, from its first line to its last."""
    lines = text.splitlines()
    n = 0
    while n < len(lines):
        start, line = n + 1, lines[n]
        n += 1
        if line.startswith("```"):
            block: list[str] = []
            while not lines[n].startswith("```"):
                block.append(lines[n])
                n += 1
            n += 1
            yield from _block(line[3:].strip(), block, start + 1)
        elif line.startswith("    "):
            while line.endswith("\\"):
                line = line[:-1] + lines[n].strip()
                n += 1
            yield from _shell_line(line.strip(), start)
        else:
            while line.count("`") % 2 and n < len(lines):
                line += " " + lines[n]
                n += 1
            for code in CODE.findall(line):
                yield from _inline(code, start)


def _block(language: str, lines: list[str], start: int) -> Iterator[Printed]:
    if language == "python":
        yield Printed("python", "\n".join(lines) + "\n", start)
    elif language in SHELLS and any(line.startswith(("export ", "for ")) for line in lines):
        yield Printed("script", "\n".join(lines) + "\n", start)
    elif language in SHELLS:
        joined = "\n".join(lines).replace("\\\n", " ")
        for i, line in enumerate(joined.splitlines()):
            yield from _shell_line(line.strip(), start + i)


def _shell_line(line: str, number: int) -> Iterator[Printed]:
    if line.startswith("--"):
        yield Printed("flags", line, number)
    elif command_of(line):
        yield Printed("shell", line, number)


def _inline(code: str, number: int) -> Iterator[Printed]:
    if code.startswith("--") and not code.startswith("--xla"):
        yield Printed("flags", code, number)
    elif code.startswith(("python -m ", "make ", "pip install ")):
        yield Printed("shell", code, number)
    elif re.match(r"config\.\S+ = ", code):
        yield Printed("setting", code, number)
    elif argv_of(words_of(code)) and "--" in code:
        mentioned = code.startswith("launch.py ") or LOOSE.search(code)
        yield Printed("mention" if mentioned else "shell", code, number)


def words_of(line: str) -> list[str]:
    """The words of a line, without comment, environment and srun; [optional] flags are taken."""
    line = re.sub(r"\[(--[^\]]*)\]", r"\1", line)
    try:
        words = shlex.split(os.path.expandvars(line), comments=True)
    except ValueError:  # a formula
        return []
    while words and (ASSIGNED.match(words[0]) or words[0] == "srun"):
        words = words[1:]
    return words


def command_of(line: str) -> list[str]:
    """The words of a line that is a command of a kind known here; else none."""
    words = words_of(line)
    known = words[:2] in (["python", "-m"], ["pip", "install"]) or words[:1] == ["make"]
    return words if known or argv_of(words) else []


def argv_of(words: list[str]) -> list[str]:
    """The arguments of ours, of a command line that is ours."""
    return next((words[len(start) :] for start in LAUNCHERS if words[: len(start)] == start), [])
