"""The smallest runs there are: on one device within this process, or as the real command in a process of its own."""

import json
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.mesh.mesh import AXES, TYPES
from gpt_jax.train.step import Batch, Program, State, hyper_scalars, init_state, make_program
from tests import xla

ROOT = Path(__file__).resolve().parents[2]
KNOBS = {
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.context": 16,
    "data.tokenizer": "bytes",
    "optim.warmup": 2,
    "train.steps": 12,
    "train.batch": 4,
    "train.log_every": 1,
    "train.eval_batches": 2,
    "train.tensorboard": False,
    "sample.prompts": "()",
}

# Runs each command as launch.py would, with a real signal from within where one is asked for, so that it comes at a
# known step; prints the results of all of them on the last line.
CHILD = """
    import contextlib, io, json, os, signal, sys
    import launch
    from gpt_jax.train.record.recorder import Recorder

    queue, found = Recorder.queue, []
    for argv, stop_at in json.loads(sys.argv[1]):
        def queue_and_stop(recorder, step, *rest):
            queue(recorder, step, *rest)
            if step == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
        Recorder.queue = queue_and_stop
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            code = launch.main(argv)
        found.append((code, said.getvalue()))
    print(json.dumps(found))
"""


def write_text(folder: Path, documents: int = 1) -> Path:
    """A file, or a folder of several, of words drawn with a fixed seed."""
    draw = random.Random(0)
    words = ["the ", "cat ", "sat ", "on ", "a ", "mat.\n", "dog ", "ran "]
    if documents == 1:
        path = folder / "text.txt"
        path.write_text("".join(draw.choices(words, k=2000)))
        return path
    path = folder / "texts"
    path.mkdir()
    for i in range(documents):
        (path / f"{i:03d}.txt").write_text("".join(draw.choices(words, k=draw.randint(1, 12))))
    return path


def command(text: Path, workdir: Path, **changes) -> list[str]:
    """The arguments of a run, with knobs changed ("__" for ".")."""
    knobs = KNOBS | {"data.source": f"text(path={str(text)!r})", "data.cache": text.parent / "cache"}
    knobs |= {key.replace("__", "."): value for key, value in changes.items()}
    flags = [f"--config.{key}={value}" for key, value in knobs.items()]
    return ["train", f"--config={ROOT / 'gpt_jax' / 'configs' / 'base.py'}", f"--workdir={workdir}", *flags]


def launch(*commands: tuple[list[str], int]) -> list[tuple[int, str]]:
    """(exit code, what it said) of each of (arguments, step at which SIGTERM comes; 0 = never), one after another in a
    new process with one device."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla.flags()}
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), json.dumps(commands)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return [tuple(result) for result in json.loads(process.stdout.splitlines()[-1])]


def config(**changes) -> Config:
    """The same settings for use within this process ("__" for ".")."""
    values = base.get_config().to_dict()
    knobs = KNOBS | {"model.vocab": 256, "sample.prompts": ()}
    knobs |= {key.replace("__", "."): value for key, value in changes.items()}
    for key, value in knobs.items():
        section, name = key.split(".")
        values[section][name] = value
    return Config.from_dict(values)


def program(c: Config, devices: int = 1, **mesh: int) -> Program:
    """What a run compiles for the first devices, with so many of them along each axis of the mesh."""
    sizes = [mesh[axis] if axis in mesh else 1 for axis in AXES]
    return make_program(c, jax.make_mesh(sizes, AXES, axis_types=TYPES, devices=jax.devices()[:devices]))


def start(c: Config) -> tuple[State, Callable]:
    """The state a run starts from, and its step(state, batch, watched=False) on the first device alone."""
    made, hyper = program(c), hyper_scalars(c)
    compiled: dict[bool, Callable] = {}

    def step(state: State, batch: Batch, watched: bool = False) -> tuple[State, dict]:
        if watched not in compiled:
            function = made.watch_step if watched else made.step
            compiled[watched] = function.lower(state, batch, hyper).compile()
        return compiled[watched](state, batch, hyper)

    state = jax.tree.map(jnp.copy, init_state(c, jax.random.key(c.train.seed)))  # one buffer may not be donated twice
    return jax.device_put(state, jax.tree.map(lambda leaf: leaf.sharding, made.live)), step


def batches(count: int, rows: int = 4, context: int = 16, vocab: int = 256) -> list[dict[str, np.ndarray]]:
    """Random batches in which a third of the tokens does not count."""
    draw = np.random.default_rng(0)
    tokens = lambda: draw.integers(vocab, size=(rows, context)).astype(np.int32)
    weights = lambda: (draw.random((rows, context)) < 2 / 3).astype(np.float32)
    return [{"tokens": tokens(), "targets": tokens(), "weights": weights()} for _ in range(count)]
