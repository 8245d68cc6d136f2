"""What a case must not do, whatever its input: fail as a bug, print a traceback, hang, or leave half a result."""

import json
import re
from pathlib import Path

from tests.fuzz.cases import Case
from tests.fuzz.worker import Ended

CODES = (0, 2, 74, 75, 76)
LINES = 40  # of a message: one screen
STEPS = 3  # lines about them, after which a long training is none that hangs
MANY = 2048  # texts of a prompt, from which on writing them takes more than a case's time


def faults(case: Case, ended: Ended) -> list[str]:
    """What is wrong with how a case ended, a line each."""
    if ended.hung:
        trains = case.argv[:1] == ["train"] and ended.said.count("\nstep ") > STEPS
        return [] if trains or _texts(case) >= MANY else [f"a hang: killed after {ended.seconds:.0f} s"]
    found = []
    if ended.code not in CODES:
        found.append(f"exit code {ended.code}" if ended.code >= 0 else f"ended by signal {-ended.code}")
    if "Traceback (most recent call last)" in ended.said + ended.printed:
        found.append("a traceback")
    if ended.code == 2:
        message = ended.said[ended.said.rfind("error: ") :]
        if "error: " not in ended.said:
            found.append("exit code 2 without a message")
        elif len(message.splitlines()) > LINES or len(message) > 6000:
            found.append(f"a message of {len(message.splitlines())} lines, {len(message)} characters")
    return [*found, *_half_made(case, ended)]


def _texts(case: Case) -> int:
    """The most texts of a prompt that a flag asks for."""
    counts = (re.fullmatch(r"--sample\.(?:best_of|num_return_sequences|num_beams)=(\d+)", word) for word in case.argv)
    return max((int(found[1]) for found in counts if found), default=1)


def _half_made(case: Case, ended: Ended) -> list[str]:
    """Of a directory that was to be made: whether it looks whole and is not, or the other way round."""
    if case.made is None or not case.argv:
        return []
    verb, made = case.argv[0], case.made
    marks = {"train": "summary.json", "import": "config.json", "export": "config.json", "fit": "fit.json"}
    if verb not in marks or "--help" in case.argv:
        return []
    marked = (made / marks[verb]).is_file()
    if verb == "train":
        return _half_trained(made, ended)
    if verb == "fit" and not any(word.startswith("--out") for word in case.argv):
        return []
    if marked and ended.code:
        return [f"{made.name}/{marks[verb]} is there after exit code {ended.code}"]
    return [] if marked or ended.code else [f"{made.name}/{marks[verb]} is missing after exit code 0"]


def _half_trained(made: Path, ended: Ended) -> list[str]:
    if ended.code == 0 and (made / "summary.json").is_file():
        values = json.loads((made / "summary.json").read_text())
        if values["status"] != "done" or not (made / "checkpoints" / str(values["steps"]) / "manifest.json").is_file():
            return ["exit code 0 without a finished run"]
    return []
