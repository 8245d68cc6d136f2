"""How what a document prints to be typed is tried, in the order of the page; ``printed_reader`` finds it."""

import argparse
import contextlib
import importlib.util
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

from gpt_jax import configs, registry
from gpt_jax.cluster.program import without
from gpt_jax.commands.flags import Flags
from gpt_jax.configs import base
from gpt_jax.errors import Failure
from gpt_jax.main import main
from tests.printed_reader import LOOSE, Printed, argv_of, command_of, words_of
from tests.serve import served

ROOT = Path(__file__).resolve().parents[1]
MODEL = {"layers": 1, "width": 24, "heads": 2, "kv_heads": 0, "head_dim": 0, "mlp_width": 0}
SHORT_MODEL = [f"--config.model.{knob}={value}" for knob, value in MODEL.items()]
SHORT_RUN = [
    *SHORT_MODEL,
    "--config.model.context=128",
    "--config.model.vocab=0",
    "--config.data.tokenizer=bytes",
    "--config.optim.warmup=1",
    "--config.train.steps=2",
    "--config.train.batch=8",
    "--config.train.accumulate=1",
    "--config.train.eval_batches=1",
    "--config.train.tensorboard=False",
    "--config.sample.prompts=()",
]
# Verb -> settings that make it short. They come before the printed ones, which win.
SHORT = {
    "train": SHORT_RUN,
    "sweep": [*SHORT_RUN, "--jobs=1"],
    "plan": [*SHORT_MODEL, "--config.model.layers=2", "--config.model.context=64", "--config.model.vocab=512"],
    "fit": ["--resamples=20"],
    "decoding": ["--prompts=2", "--seeds=1", "--new_tokens=8"],
    "haystack": ["--count=2", "--depths=2"],
}
CORPUS = "corpus"  # a folder of texts in the home directory, for whatever is trained
# Verb -> what it cannot do without, for flags that a page prints alone.
NEEDED = {
    "train": ["--config=quickstart", "--workdir=runs/new"],
    "plan": ["--config=quickstart"],
    "sweep": ["--config=my_ablation.py", "--workdir=sweeps/new"],
    "report": ["--workdir=sweeps/new"],
    "fit": ["--runs=runs.csv"],
    "import": ["--from=HF_DIR", "--workdir=runs/new"],
    "export": ["--workdir=runs/q", "--to=exported"],
    "eval": ["--workdir=runs/q"],
    "sample": ["--workdir=runs/q"],
    "chat": ["--workdir=runs/q"],
    "serve": ["--workdir=runs/q"],
    "interpret": ["--workdir=runs/q"],
    "decoding": ["--workdir=runs/q"],
    "haystack": ["--workdir=runs/q", "--lengths=80"],
}
FILE = re.compile(r"# ([\w./]+\.py)(, continued)?\n")  # the first line of a snippet that is to be saved
SNIPPET = "a snippet of a page"


def short(argv: list[str]) -> list[str]:
    """A command line with the settings that make it short; one for SLURM is run as by srun, which a cluster has
    (tests/cluster/test_slurm_jobs.py), and one that writes a manifest as it is."""
    if "--backend=k8s" in argv:
        return argv
    argv = [argv[0], *without(argv[1:], *(("backend", "slurm") if "--backend=slurm" in argv else ()))]
    corpus = str(Path.home() / CORPUS)
    reads = argv[0] == "sweep" or argv[0] == "train" and not _compares(argv)
    text = [f"--config.data.source=text(path={corpus!r})"] if reads else []
    return [argv[0], *SHORT.get(argv[0], []), *text, *argv[1:]]


def _compares(argv: list[str]) -> bool:
    """Whether a preset trains on examples that no running text can stand for."""
    preset = next((word.removeprefix("--config=") for word in argv if word.startswith("--config=")), "base")
    return registry.build("train.objectives", configs.load(preset).tune.objective).form != "text"


class Page:
    """Tries what a page prints, one after another, in the current directory.

    Args:
      shims: an empty folder for the ``python`` of scripts.
    """

    def __init__(self, shims: Path):
        self.shims = shims
        self.names: dict[str, Any] = {"__name__": SNIPPET}
        self.modules: list[str] = []  # named so far: a flag that is printed alone may be of one of them

    def fault(self, printed: Printed) -> str:
        """Why something printed does not work; empty where it does."""
        said = io.StringIO()
        try:
            nothing_typed = mock.patch("sys.stdin", io.StringIO())
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), nothing_typed:
                why = getattr(self, f"_{printed.kind}")(printed.text)
        except (Exception, SystemExit):
            why = traceback.format_exc(limit=-3)
        return f"line {printed.line}: {printed.text.strip()}\n{why}\n{said.getvalue()[-1500:]}" if why else ""

    def _shell(self, line: str) -> str:
        words = command_of(line)
        if argv := argv_of(words):
            if argv[0] == "serve":
                return _served(argv[1:])
            return f"exit code {code}" if (code := main(short(argv))) else ""
        if words[0] == "python":
            self.modules.append(words[2])
        return {"make": _make, "pip": _pip, "python": _module}[words[0]](words)

    def _mention(self, code: str) -> str:
        verb, *words = argv_of(words_of(code))
        return refused(verb, words) if verb in NEEDED else f"exit code {code}" if (code := main([verb])) else ""

    def _flags(self, text: str) -> str:
        faults = [refused(verb, words_of(text)) for verb in registry.names("commands") if verb in NEEDED]
        taken = "" in faults or any(not _module(["python", "-m", name, *words_of(text)]) for name in self.modules)
        return "" if taken else "no verb takes it: " + "; ".join(faults)

    def _python(self, code: str) -> str:
        file = FILE.match(code)
        if file and not file[1].startswith("gpt_jax/"):
            with open(file[1], "a" if file[2] else "w", encoding="utf-8") as saved:
                saved.write(code)
            return ""
        exec(compile(code, "the snippet", "exec"), self.names)
        return ""

    def _setting(self, code: str) -> str:
        exec(code, {"config": base.get_config()})  # which is locked
        return ""

    def forget(self) -> None:
        """What snippets registered is no longer known."""
        for key in [key for key, variant in registry._variants.items() if variant.__module__ == SNIPPET]:
            del registry._variants[key]

    def _script(self, text: str) -> str:
        """The shell is real; its processes of ours read their flags alone (tests/mesh/test_processes.py trains with two)."""
        faults, shim = self.shims / "faults", self.shims / "python"
        shim.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom tests.printed import refused\n"
            f"open({str(faults)!r}, 'a').write('process: ' + refused(sys.argv[2], sys.argv[3:]) + '\\n')\n"
        )
        shim.chmod(0o755)
        path = f"{self.shims}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(["bash", "-ec", text], env=os.environ | {"PATH": path}, capture_output=True, text=True)
        found = faults.read_text() if faults.exists() else "no process"
        return (
            "" if done.returncode == 0 and set(found.splitlines()) == {"process: "} else f"{found}{done.stderr[-2000:]}"
        )


def refused(verb: str, words: list[str]) -> str:
    """What a verb's flag parser has against these words; values left to the reader, or left out, are no fault."""
    flags = Flags(verb)
    registry.lookup("commands", verb)().define(flags)
    given = [word for word in words if not LOOSE.search(word)]
    names = {word.partition("=")[0] for word in given}
    try:
        flags.parse([*(word for word in NEEDED[verb] if word.partition("=")[0] not in names), *given])
    except Failure as failure:
        return "" if "is given no value" in str(failure) else str(failure)
    return ""


def _served(flags: list[str]) -> str:
    """A server ends when it is stopped; it works where it comes to answer."""
    with served.process(*flags) as (_, url):
        return "" if httpx.get(f"{url}/v1/models").json()["data"] else "it serves no run"


def _make(words: list[str]) -> str:
    recipes = dict(re.findall(r"^([\w-]+):.*\n((?:\t.*\n)*)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    variables = dict(word.partition("=")[::2] for word in words[1:] if "=" in word)
    faults = []
    for target in (word for word in words[1:] if "=" not in word):
        if target not in recipes:
            faults.append(f"there is no target {target}")
        recipe = re.sub(r"\$\((\w+)\)", lambda name: variables.get(name[1], ""), recipes.get(target, ""))
        modules = re.findall(r"python (-m (?:tests|docs|benchmarks|experiments)\b[^&\n]*)", recipe)
        faults += [_module(["python", *shlex.split(line)]) for line in modules]
    return "\n".join(filter(None, faults))


def _pip(words: list[str]) -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    dynamic = project.get("tool", {}).get("setuptools", {}).get("dynamic", {})
    known = [table.get("optional-dependencies", {}) for table in (project["project"], dynamic)]
    for word in words[2:]:
        if extras := re.search(r"\[(.*)\]", word):
            unknown = set(extras[1].split(",")).difference(*known)
            if unknown:
                return f"no extras {unknown}"
        elif "/" in word and not (ROOT / word).is_file():
            return f"there is no {word}"
    return ""


class _Parsed(Exception):
    """Raised once a module has read its command line."""


def _module(words: list[str]) -> str:
    """Whether ``python -m MODULE …`` reads its command line; nothing after that is run."""
    name, rest = words[2], words[3:]
    spec = importlib.util.find_spec(name)
    if spec is None:
        return f"there is no module {name}"
    if spec.submodule_search_locations:
        spec = importlib.util.find_spec(f"{name}.__main__")
    if spec is None or spec.origin is None:
        return f"{name} cannot be run"
    source = Path(spec.origin).read_text("utf-8")
    if "argparse" not in source:
        paths = [word for word in rest if "/" in word and not (ROOT / word).exists()]
        return (
            f"there is no {paths[0]}" if paths else "" if not rest or "sys.argv" in source else "it takes no arguments"
        )
    if "import torch" in source and importlib.util.find_spec("torch") is None:
        return ""  # a comparison with a peer, which tests go without where it cannot be installed
    read_line = argparse.ArgumentParser.parse_args

    def parse_args(parser, *args, **kwargs):
        read_line(parser, *args, **kwargs)
        raise _Parsed

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args),
        mock.patch.object(sys, "argv", [name, *rest]),
    ):
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=False)
        except _Parsed:
            return ""
    return "it never reads its command line"
