"""Trainings as jobs of SLURM, whose commands are those of ``tests/cluster/commands.py``; ``make slurm`` has real ones."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

import launch
from gpt_jax.cluster import job, slurm
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.errors import Failure, Stopped, UserError
from tests.cluster import commands

CONFIG = Config.from_dict(base.get_config().to_dict())
TINY = ["--config.model.layers=1", "--config.model.width=16", "--config.model.heads=2", "--config.model.context=16"]
TINY += ["--config.data.source=markov()", "--config.data.tokenizer=none", "--config.train.steps=4"]
TINY += ["--config.train.batch=8", "--config.optim.warmup=1", "--config.sample.prompts=()"]


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """The folder of the commands, with the states of jobs."""
    folder = tmp_path / "commands"
    commands.install(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(job, "POLL", 0.2)
    monkeypatch.setattr(job, "TICK", 0.05)
    return folder


def submitted(folder, command) -> str:
    text = slurm.script("x", f"{folder}/out-%j.txt", command)
    return slurm.submit(folder / "x.sbatch", text, [])


def test_a_training_is_submitted_and_followed(queue, tmp_path, capfd):
    workdir = tmp_path / "it's a run"
    words = [
        "train",
        "--config=base",
        "--workdir",
        str(workdir),
        "--backend",
        "slurm",
        "--slurm=--time=5 -p all",
        *TINY,
    ]
    assert launch.main(words) == 0
    said = capfd.readouterr().out
    assert "SLURM job 1" in said and "job 1: COMPLETED" in said
    assert json.loads((workdir / "summary.json").read_text())["status"] == "done"
    assert (workdir / "slurm" / "job-1.txt").read_text() in said
    given = (queue / "1.words").read_text().splitlines()
    assert given == ["--parsable", "--time=5", "-p", "all", str(workdir / "slurm" / "train.sbatch")]
    (start,) = json.loads((workdir / "environment.json").read_text())["starts"]
    assert not [word for word in start["argv"] if "slurm" in word or "backend" in word]


def test_a_job_that_fails_says_why_with_its_own_exit_code(queue, tmp_path, capfd):
    with pytest.raises(Failure, match="job 1 ended with exit code 2 .*there is no file nothing") as failed:
        job.train(CONFIG, tmp_path / "run", ["--config=nothing", f"--workdir={tmp_path / 'run'}"], "")
    assert failed.value.exit_code == 2


def test_a_stopped_job_is_requeued(queue, tmp_path):
    seen = tmp_path / "seen"
    number = submitted(tmp_path, ["sh", "-c", f"test -e {seen} || {{ touch {seen}; exit 75; }}"])
    assert commands.over(queue, number) == {"JobState": "COMPLETED", "Restarts": 1, "ExitCode": "0:0"}


def test_a_task_of_an_array_requeues_itself_alone(queue, tmp_path, monkeypatch):
    (queue / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    for name, value in {"JOB_ID": "4", "ARRAY_JOB_ID": "4", "ARRAY_TASK_ID": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    script = slurm.script("x", "out", ["sh", "-c", "exit 75"])
    assert subprocess.run(["sh", "-c", script]).returncode == 75
    assert (tmp_path / "asked").read_text() == "requeue 4_2\n"


@pytest.mark.parametrize("code, starts", [(75, 1 + slurm.SHORT_LIVES), (76, 1), (2, 1), (137, 1)])
def test_one_that_cannot_go_on_is_not_requeued_for_ever(queue, tmp_path, code, starts):
    number = submitted(tmp_path, ["sh", "-c", f"echo start; exit {code}"])
    state = commands.over(queue, number)
    assert state == {"JobState": "FAILED", "Restarts": starts - 1, "ExitCode": f"{code}:0"}
    assert (tmp_path / f"out-{number}.txt").read_text() == "start\n" * starts


def test_one_that_slurm_ends_itself_is_not_requeued(queue, tmp_path):
    number = submitted(tmp_path, ["sh", "-c", "kill -TERM $PPID; exit 75"])
    assert commands.over(queue, number) == {"JobState": "FAILED", "Restarts": 0, "ExitCode": "75:0"}


def test_monitoring_ends_and_the_job_goes_on(queue, tmp_path, capfd):
    directory = tmp_path / "run" / "slurm"
    directory.mkdir(parents=True)
    command = [sys.executable, "-P", "-m", "gpt_jax", "train", "--config=base"]
    (directory / "job.json").write_text(json.dumps({"job": "7", "command": command, "options": ["-N2"]}))
    (directory / "job-7.txt").write_text("step 1\n")
    commands.write_state(queue, "7", JobState="RUNNING", Reason="None", NodeList="a[1-2]", Restarts=1)
    with pytest.raises(UserError, match="job 7 of this run is in the queue, with other settings"):
        job.train(CONFIG, tmp_path / "run", ["--config=base"], "-N3")
    threading.Timer(1, os.kill, [os.getpid(), signal.SIGTERM]).start()
    with pytest.raises(Stopped, match="job 7 keeps running\n.*\n.*scancel 7"):
        job.train(CONFIG, tmp_path / "run", ["--config=base"], "-N2")
    assert "step 1\njob 7: RUNNING on a[1-2], started again (1)" in capfd.readouterr().out


@pytest.mark.parametrize(
    "said, code, what",
    [
        ({"JobState": "CANCELLED", "ExitCode": "0:15"}, 75, "job 7 was stopped: CANCELLED"),
        ({"JobState": "TIMEOUT", "Reason": "TimeLimit"}, 75, "TIMEOUT (TimeLimit)"),
        ({"JobState": "FAILED", "ExitCode": "75:0"}, 75, "was stopped"),
        ({"JobState": "OUT_OF_MEMORY", "ExitCode": "0:125"}, 70, "signal 125 (OUT_OF_MEMORY)"),
        ({"JobState": "FAILED", "ExitCode": "137:0"}, 70, "137 (FAILED): b: task 1: Killed; a: task 0: Aborted"),
        ({"JobState": "FAILED", "ExitCode": "76:0"}, 76, "exit code 76 (FAILED): loss is nan"),
    ],
)
def test_how_a_job_ended(queue, tmp_path, said, code, what):
    commands.write_state(queue, "7", **said)
    earlier = "srun: error: a: task 0: Exited with exit code 75\n"
    tasks = "srun: error: b: task 1: Killed\nsrun: error: a: task 0: Aborted\n"
    (tmp_path / "out").write_text(f"{earlier}error: loss is nan\n  fix: none\n{tasks}")
    with pytest.raises(Failure) as failure:
        job._conclude("7", job.state_of("7"), tmp_path / "out")
    assert what in failure.value.what and failure.value.exit_code == code
    assert job.state_of("8") is None


@pytest.mark.parametrize(
    "options, what",
    [
        ("--time='8", "cannot be read: No closing quotation"),
        ("nodes=2,gpus=8", "'nodes=2,gpus=8' is not an option"),
        ("--time=8 gpu", "'gpu' is not an option"),
        ("-", "'-' is not an option"),
        ("--array=0-3", "--array=0-3 is given to sbatch by this command"),
        ("-o out.txt", "-o is given"),
        ("-oout.txt", "-oout.txt is given"),
        ("--signal=B:USR1@60", "signals the script"),
    ],
)
def test_malformed_options(options, what, tmp_path, capsys):
    words = ["train", "--config=base", f"--workdir={tmp_path / 'run'}", "--backend=slurm", f"--slurm={options}"]
    assert launch.main(words) == 2
    assert what in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_options_of_sbatch():
    assert slurm.options_of("-N 2 --time=8:00:00 --partition 'a b'") == [
        "-N",
        "2",
        "--time=8:00:00",
        "--partition",
        "a b",
    ]
    assert slurm.options_of("--signal=TERM@300 -c4") == ["--signal=TERM@300", "-c4"] and slurm.options_of("") == []


def test_without_slurm_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch.main(["train", "--config=base", f"--workdir={tmp_path / 'run'}", "--backend=slurm"]) == 2
    said = capsys.readouterr().err
    assert "no sbatch on this machine" in said and "--backend=local" in said and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words, what",
    [
        (["--slurm=--nodes=2"], "--slurm is given, but --backend=local does not read it"),
        (["--backend=k8s", "--slurm=--nodes=2"], "--backend=k8s does not read it"),
        (["--backend=pbs"], "allowed: local, slurm, k8s"),
        (["--backend=slurm", "--slurm=--nodes=2 --gpus-per-node=h100:8", "--config.mesh.fsdp=3"], "devices, 16"),
    ],
)
def test_what_does_not_go_together(queue, words, what, tmp_path, capsys):
    assert launch.main(["train", "--config=base", f"--workdir={tmp_path / 'run'}", *words]) == 2
    assert what in capsys.readouterr().err


def test_a_refusal_of_sbatch_is_shown(queue, tmp_path, capsys):
    (queue / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2\nexit 1\n")
    words = ["train", "--config=base", f"--workdir={tmp_path / 'run'}", "--backend=slurm", "--slurm=-p x"]
    assert launch.main(words) == 2
    assert "error: sbatch refuses: invalid partition specified: x" in capsys.readouterr().err
