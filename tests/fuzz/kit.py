"""What cases start from: a small text, token files, finished runs, a finished sweep and a Hugging Face directory."""

import json
from pathlib import Path

import numpy as np

from tests.fuzz import worker

RUN, CHAT, SWEEP, HF, TEXT, TOKENS = "run", "chat", "sweep", "hf", "text.txt", "tokens.bin"
OF_CHAT = {"model.context": "128", "data.template": "chatml"}  # a run that is asked questions
SMALL = {
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.context": 16,
    "model.position": "rope",
    "model.norm": "rmsnorm",
    "model.mlp": "swiglu",
    "model.bias": "False",
    "data.tokenizer": "bytes",
    "data.cache": "cache",
    "optim.warmup": 1,
    "train.steps": 2,
    "train.batch": 4,
    "train.eval_batches": 1,
    "train.tensorboard": "False",
    "sample.max_new_tokens": 4,
    "sample.prompts": "()",
}
STUDY = """
from gpt_jax.configs import base
from gpt_jax.study.sweep import Sweep

def sweep():
    c = base.get_config()
    c.model.update(layers=1, width=16, heads=2, context=16)
    c.data.update(source="markov()", tokenizer="none")
    c.train.update(steps=2, batch=4, eval_batches=1, tensorboard=False)
    c.optim.warmup = 1
    c.sample.prompts = ()
    return Sweep(c, {"one": {}, "two": {"optim.lr": 1e-2}}, seeds=(0,))
"""
RUNS = "name,params,tokens,loss,status\n" + "".join(
    f"r{n}{d},{n}e5,{d}e6,{1.7 + 40 / n**0.5 / 100 + 3 / d**0.4:.5f},done\n" for n in (1, 2, 4, 8) for d in (1, 3, 9)
)


def small(text: Path) -> dict[str, str]:
    """The knobs of a run that takes a second."""
    return {key: str(value) for key, value in SMALL.items()} | {"data.source": f"text(path={str(text)!r})"}


def flags(knobs: dict[str, str], section: str = "config.") -> list[str]:
    return [f"--{section}{key}={value}" for key, value in knobs.items()]


def make(folder: Path) -> Path:
    """Everything, by the commands that make it.

    Raises:
      RuntimeError: one of them fails.
    """
    (folder / TEXT).write_text("to be or not to be, that is the question.\n\n" * 60)
    np.arange(4000, dtype="<u2").__mod__(251).tofile(folder / TOKENS)
    (folder / "study.py").write_text(STUDY)
    run, hf = folder / RUN, folder / HF
    for work in (
        worker.command(_train(run, small(folder / TEXT))),
        worker.command(_train(folder / CHAT, small(folder / TEXT) | OF_CHAT)),
        worker.command(["export", f"--workdir={run}", f"--to={hf}", "--family=llama"]),
        lambda: _sweep(folder),
    ):
        ended = worker.run(work, folder)
        if ended.code:
            raise RuntimeError(f"exit {ended.code}\n{ended.printed}\n{ended.said}")
    return folder


def _train(run: Path, knobs: dict[str, str]) -> list[str]:
    return ["train", "--config=base", f"--workdir={run}", *flags(knobs)]


def _sweep(folder: Path) -> int:
    """A sweep, trained in this process."""
    from gpt_jax.study.sweep import sweep as sweeps
    from gpt_jax.study.sweep import worker as sweep_worker
    from gpt_jax.study.sweep.results import SweepResults

    study, workdir = folder / "study.py", folder / SWEEP
    sweep = sweeps.load(study)
    jobs = sweeps.jobs(sweep)
    workdir.mkdir()
    results = SweepResults.plan(workdir, sweep, jobs, study, ("fuzz",))
    codes = []
    for job in jobs:
        directory = results.directory(job.id)
        directory.mkdir(parents=True)
        codes += [code for code, _ in sweep_worker.train([sweep_worker.order_of(job, directory)])]
    return max(codes)


def prompts(count: int = 4) -> bytes:
    lines = [{"prompt": "to be"}, {"ids": [1, 2, 3]}, {"prompt": "or"}, {"ids": [200]}]
    return "\n".join(json.dumps(line) for line in lines[:count]).encode()
