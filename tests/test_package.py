"""The package as others install it: what the wheel holds, and its command in a folder that knows nothing of the checkout."""

import email
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import gpt_jax
from gpt_jax.cluster import program
from gpt_jax.cluster.slurm import script
from gpt_jax.study.sweep import slurm, worker
from gpt_jax.study.sweep.sweep import jobs, load
from tests import xla
from tests.cluster import commands

ROOT = Path(__file__).resolve().parents[1]
MADE = {"build", "data", "dist", "runs", "site", "sweeps", "__pycache__"}  # not of the repository
SIZE = {
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.context": 16,
    "data.source": "text(path='corpus.txt')",
    "data.tokenizer": "bytes",
    "data.cache": "cache",
    "train.steps": 3,
    "train.batch": 4,
    "train.eval_batches": 2,
    "train.tensorboard": False,
    "sample.prompts": "()",
}
EXPERIMENT = """
from {package} import base
from gpt_jax.study.sweep import Sweep

def sweep():
    c = base.get_config()
    c.model.update(layers=1, width=16, heads=2, context=16)
    c.data.update(source="text(path='corpus.txt')", tokenizer="bytes", cache="cache")
    c.train.update(steps=3, batch=4, eval_batches=2, tensorboard=False)
    c.sample.prompts = ()
    return Sweep(c, {{"plain": {{}}}}, seeds=(0,))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built as pip builds it, from a copy: a build leaves folders of its own beside the sources."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for path in ROOT.iterdir():
        if path.is_dir() and not path.name.startswith(".") and path.name not in MADE:
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.is_file():
            shutil.copyfile(path, source / path.name)
    pip("wheel", str(source), "--no-build-isolation", f"--wheel-dir={dist}")
    (made,) = dist.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of an environment that has the wheel, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip(f"--python={python}", "install", str(wheel), "--no-compile")
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where a user stands: a text, and a module that Python would take for one of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("XLA_FLAGS", xla.flags())
    (tmp_path / "corpus.txt").write_text("the cat sat on the mat.\n" * 100)
    (tmp_path / "random.py").write_text("raise ImportError('a file of the user')")
    return tmp_path


def pip(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, "--no-deps", "--no-index"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def run(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def knobs(**changes) -> list[str]:
    return [f"--config.{name}={value}" for name, value in (SIZE | changes).items()]


def summary(workdir: Path) -> dict:
    return json.loads((workdir / "summary.json").read_text())


def test_the_wheel_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    sources = [path.relative_to(ROOT) for path in (ROOT / "gpt_jax").rglob("*") if path.is_file()]
    wanted = {path.as_posix() for path in sources if path.suffix != ".pyc"}
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert "gpt_jax/configs/base.py" in names and any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_what_it_says_of_itself(wheel):
    with zipfile.ZipFile(wheel) as file:
        (folder,) = {name.split("/")[0] for name in file.namelist() if ".dist-info/" in name}
        text = file.read(f"{folder}/METADATA").decode()
        programs = file.read(f"{folder}/entry_points.txt").decode()
    told = email.message_from_string(text)
    assert (told["Name"], told["License-Expression"], told["Requires-Python"]) == ("gpt_jax", "Apache-2.0", ">=3.11")
    assert text.partition("\n\n")[2].strip() == (ROOT / "README.md").read_text("utf-8").strip()
    assert programs.split() == ["[console_scripts]", "gpt-jax", "=", "gpt_jax.main:console"]
    assert set(told.get_all("Provides-Extra")) == {path.stem for path in (ROOT / "requirements").glob("*.txt")}
    needed = [line for line in told.get_all("Requires-Dist") if "extra ==" not in line]
    assert set(needed) == requirements(ROOT / "requirements.txt")
    for extra in ("gpu", "tpu", "search"):
        mine = {line.split(";")[0] for line in told.get_all("Requires-Dist") if f'extra == "{extra}"' in line}
        assert mine == requirements(ROOT / "requirements" / f"{extra}.txt")


def requirements(path: Path) -> set[str]:
    return {line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")}


def test_train_export_and_import_from_any_folder(installed, folder):
    program = installed / "gpt-jax"
    assert "usage: gpt-jax VERB" in run(program, "--help")
    run(program, "train", "--config=quickstart", "--workdir=q", *knobs())
    assert summary(folder / "q")["status"] == "done"
    (start,) = json.loads((folder / "q" / "environment.json").read_text())["starts"]
    assert start["git"] is None and start["packages"]["gpt_jax"] == "0.1.0"
    run(program, "export", "--workdir=q", "--to=hf")
    run(program, "import", "--from=hf", "--workdir=back")
    assert (folder / "hf" / "model.safetensors").exists() and (folder / "back" / "config.json").exists()


def test_workers_import_what_is_installed_and_read_the_users_folder(installed, folder):
    (folder / "mine.py").write_text(EXPERIMENT.format(package="gpt_jax.configs"))
    run(installed / "gpt-jax", "sweep", "--config=mine.py", "--workdir=s", "--jobs=1")
    (made,) = (folder / "s" / "runs").iterdir()
    assert summary(made)["status"] == "done"
    (start,) = json.loads((made / "environment.json").read_text())["starts"]
    assert start["argv"][0].startswith(str(installed.parent)) and start["cwd"] == str(folder)


def test_a_slurm_task_stands_where_the_user_does(folder, monkeypatch):
    (folder / "mine.py").write_text(EXPERIMENT.format(package="configs"))  # as files of old say
    job = jobs(load(folder / "mine.py"))[0]
    (folder / slurm.ORDERS).write_text(json.dumps(worker.order_of(job, folder / "run")) + "\n")
    task = program.python_module("gpt_jax.study.sweep.slurm")
    text = script("mine", str(folder / "out"), ["--ntasks=1", *task, str(folder / slurm.ORDERS)])
    (folder / slurm.SCRIPT).write_text(text)
    commands.install(folder / "commands")
    monkeypatch.setenv("PATH", f"{folder / 'commands'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir("/")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    run("sh", folder / slurm.SCRIPT)
    assert summary(folder / "run")["status"] == "done"


def test_site_packages_is_not_put_before_the_standard_library(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["mine", "", "yours"]))
    assert program.python_path() == os.pathsep.join([str(ROOT), "mine", "yours"])
    monkeypatch.setattr(program, "LOCATION", Path(sysconfig.get_path("purelib")).resolve())
    assert program.python_path() == os.pathsep.join(["mine", "yours"])


def test_importing_the_package_imports_no_jax():
    code = "import sys, gpt_jax; gpt_jax.__all__, dir(gpt_jax); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    assert set(gpt_jax.__all__) <= set(dir(gpt_jax)) and all(getattr(gpt_jax, name) for name in gpt_jax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gpt_jax.nothing
