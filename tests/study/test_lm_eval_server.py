"""The harness asks a served run over HTTP, and gets what it gets in process."""

import lm_eval
import pytest

import launch
from tests.serve import served
from tests.study.test_lm_eval import compare, made, samples, tasks

__all__ = ["tasks"]
CONTEXT = 256
ASKED = ("stories", "sums")


@pytest.mark.slow
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
