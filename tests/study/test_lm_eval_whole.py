"""The whole harness beside ours: its own model of an export, a served run over HTTP, and an environment without torch."""

import os
import subprocess
import sys

import lm_eval
import pytest

import launch
from gpt_jax.study.lm_eval import local
from tests.serve import served
from tests.study.test_lm_eval import compare, made, ours, run, samples, tasks
from tests.train import tiny

__all__ = ["ours", "run", "tasks"]
pytestmark = pytest.mark.slow
CONTEXT = 256
ASKED = ("stories", "sums")


def test_local_completions_says_what_is_said_in_process(tasks, tmp_path):
    pytest.importorskip("transformers")
    run, hf = made(tasks, tmp_path, CONTEXT), tmp_path / "hf"
    words = ",".join(f"lm_eval:{tasks}/{name}.yaml" for name in ASKED)
    assert launch.main(["eval", f"--workdir={run}", f"--tasks={words}"]) == 0
    assert launch.main(["export", f"--workdir={run}", f"--to={hf}"]) == 0
    manager = lm_eval.tasks.TaskManager(include_path=str(tasks), include_defaults=False)
    with served.serving([run]) as running:
        theirs = lm_eval.simple_evaluate(
            model="local-completions",
            model_args={
                "model": run.name,
                "base_url": f"{running.url}/v1/completions",
                "tokenizer": str(hf),
                "max_length": CONTEXT - 1,
            },
            tasks=[f"gpt_jax_{name}" for name in ASKED],
            task_manager=manager,
            bootstrap_iters=0,
        )
    assert compare(samples(run / "eval" / "2"), theirs) == (5 * 4, 5)


def test_every_answer_is_that_of_the_harness_s_own_model_of_the_export(run, ours, tasks, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("accelerate")
    assert launch.main(["export", f"--workdir={run}", f"--to={tmp_path / 'hf'}"]) == 0
    arguments = {"pretrained": str(tmp_path / "hf"), "device": "cpu", "dtype": "float32"}
    manager = lm_eval.tasks.TaskManager(include_path=str(tasks), include_defaults=False)
    given = {"tasks": sorted(ours), "task_manager": manager, "batch_size": 4, "bootstrap_iters": 0}
    theirs = lm_eval.simple_evaluate(model="hf", model_args=arguments, **given)
    assert sorted(ours) == [f"gpt_jax_{name}" for name in sorted(local.TASKS)]
    compared, texts = compare(ours, theirs)
    assert compared == 5 * (1 + 4 + 4) and texts == 10
    assert (
        len({tuple(answers) for name in ("sums", "sums_late") for _, answers in ours[f"gpt_jax_{name}"].values()}) > 3
    )


def test_it_runs_without_torch_and_without_a_network(run, tasks):
    code = (
        "import sys; from importlib.machinery import PathFinder; find = PathFinder.find_spec;"
        "absent = lambda name: name.split('.')[0] in ('torch', 'transformers', 'accelerate', 'peft');"
        "PathFinder.find_spec = staticmethod(lambda name, *rest: None if absent(name) else find(name, *rest));"
        f"import launch; sys.exit(launch.main(['eval', '--workdir={run}', '--tasks=lm_eval:{tasks}/sums.yaml:limit=2']))"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": str(tiny.ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "exact_match" in done.stdout, done.stderr[-2000:]
