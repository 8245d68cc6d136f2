"""Ours: the step of a training run and the decode loop, as ``launch.py`` runs them."""

import functools
import resource
import statistics
import time
from typing import Any

import jax
import numpy as np

from benchmarks.shapes import SHAPES, Shape
from benchmarks.worker import seconds, serve
from gpt_jax import backend
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.data.open import open_data
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import processes
from gpt_jax.model import flops, gpt
from gpt_jax.sample import platform as platforms
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.train.step import hyper_scalars, make_program

steps: dict[str, Any] = {}
decoders: dict[str, Any] = {}
AT_ONCE = 20  # products in a GPU's queue while the time is taken
random = np.random.default_rng(0)


def config_of(shape: Shape, **model: Any) -> Config:
    values = base.get_config()
    sizes = {"layers": shape.layers, "width": shape.width, "heads": shape.heads, "context": shape.context}
    values.model.update({**sizes, "vocab": shape.vocab, **model})
    values.optim.lr = 1e-4
    values.train.batch = shape.batch
    return Config.from_dict(values)


def build(shape: str, mode: str, dtype: str) -> float:
    """Makes a training step ready and returns the seconds its first call took, compilation included."""
    s, config = SHAPES[shape], config_of(SHAPES[shape], scan=mode == "scanned", dtype=dtype)
    mesh = meshes.make(config.mesh)
    jax.set_mesh(mesh)
    program, hyper = make_program(config, mesh), hyper_scalars(config)
    state = program.init(config.train.seed)
    rows = {name: random.integers(s.vocab, size=(s.batch, s.context), dtype=np.int32) for name in ("tokens", "targets")}
    rows["weights"] = np.ones((s.batch, s.context), np.float32)

    def step() -> dict:
        nonlocal state
        state, metrics = program.step(state, meshes.put_batch(rows, mesh), hyper)
        return metrics

    start = time.perf_counter()
    jax.block_until_ready(step())
    steps[mode] = step
    return time.perf_counter() - start


def run(mode: str, count: int) -> float:
    """Seconds per step. Like a run, it reads the loss of each step, one step late."""
    step = steps[mode]
    start, before = time.perf_counter(), None
    for _ in range(count):
        metrics = step()
        if before is not None:
            float(before["loss"])
        before = metrics
    float(before["loss"])
    return (time.perf_counter() - start) / count


def cost(mode: str, count: int) -> dict[str, float]:
    """Of a step: "seconds", "cpu_seconds" of all threads, page "faults"; and the last "loss"."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    metrics = [steps[mode]() for _ in range(count)][-1]
    loss, taken = float(metrics["loss"]), time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    faults = after.ru_minflt - before.ru_minflt
    return {"seconds": taken / count, "cpu_seconds": cpu / count, "faults": faults / count, "loss": loss}


def gemm(shape: str, dtype: str) -> float:
    """Median rate of the shape's matrix products in FLOP/s."""
    rates = []
    calls = 1 if jax.default_backend() == "cpu" else AT_ONCE
    multiply = jax.jit(lambda a, b: a @ b)
    for rows, inner, columns in SHAPES[shape].products():
        a = jax.numpy.asarray(random.standard_normal((rows, inner), np.float32), dtype)
        b = jax.numpy.asarray(random.standard_normal((inner, columns), np.float32), dtype)
        work = 2 * rows * inner * columns * calls
        rates.append(work / seconds(lambda a=a, b=b: jax.block_until_ready([multiply(a, b) for _ in range(calls)])))
    return statistics.median(rates)


def model_flops(shape: str) -> float:
    """FLOPs of a training step by PaLM's convention (see gpt_jax/model/flops.py)."""
    s = SHAPES[shape]
    return flops.flops_per_token(config_of(s).model, s.context, "palm") * s.tokens


def data(shape: str, count: int = 200) -> float:
    """Seconds that it takes to make a batch of the default text source and put it on the devices."""
    s = SHAPES[shape]
    config = config_of(s, vocab=0)  # as many as the text has
    mesh = meshes.make(config.mesh)
    batches = open_data(config).train.batches(s.batch, seed=0)
    meshes.put_batch(batches[0], mesh)
    start = time.perf_counter()
    for k in range(1, count + 1):
        jax.block_until_ready(meshes.put_batch(batches[k], mesh))
    return (time.perf_counter() - start) / count


def build_decode(shape: str, mode: str, batch: int, prompt: int, new: int, dtype: str) -> float:
    """Makes greedy generation ready and returns the seconds its first call took; there is one mode, "cached"."""
    s = SHAPES[shape]
    config = config_of(s, dtype=dtype).model
    decoder = Decoder(config, jax.jit(gpt.init, static_argnums=0)(config, jax.random.key(0)))
    prompts = random.integers(s.vocab, size=(batch, prompt)).tolist()

    def generate() -> None:
        written = decoder.generate(prompts, max_new_tokens=new, sampling=Sampling(temperature=0.0), seeds=[0] * batch)
        if any(len(row) != new for row in written.tokens):
            raise RuntimeError("the generation ended early")

    start = time.perf_counter()
    generate()
    decoders[f"{mode}-{batch}"] = generate
    return time.perf_counter() - start


def weights(shape: str, batch: int, dtype: str) -> float:
    """Seconds to multiply every matrix that a new token passes through with ``batch`` vectors, as decoding does it."""
    config = config_of(SHAPES[shape]).model
    key = jax.random.key(0)
    params = jax.eval_shape(functools.partial(gpt.init, config), key)
    size = sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
    w_FD = jax.numpy.ones((size // config.width, config.width), dtype)
    x_B1D = jax.numpy.ones((batch, 1, config.width), dtype)
    platform = platforms.of(jax.default_backend())
    multiply = jax.jit(platform.product, compiler_options=platform.compiler_options(batch > 1))
    calls = 1 if platform is platforms.CPU else AT_ONCE
    return seconds(lambda: jax.block_until_ready([multiply(x_B1D, w_FD) for _ in range(calls)])) / calls


def run_decode(mode: str, batch: int) -> float:
    """Seconds of one generation."""
    start = time.perf_counter()
    decoders[f"{mode}-{batch}"]()
    return time.perf_counter() - start


if __name__ == "__main__":
    backend.tune()  # as launch.py does, before anything uses JAX
    processes.start_processes()
    commands = {"build": build, "run": run, "cost": cost, "gemm": gemm, "model_flops": model_flops, "data": data}
    serve({**commands, "build_decode": build_decode, "run_decode": run_decode, "weights": weights})
