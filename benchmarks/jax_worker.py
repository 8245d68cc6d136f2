"""Ours: the step of a training run and the decode loop, as ``launch.py`` runs them."""

import functools
import resource
import statistics
import time
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.shapes import SHAPES, Shape
from benchmarks.worker import seconds, serve
from gpt_jax import backend
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.data.open import open_data
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import processes
from gpt_jax.model import flops, gpt
from gpt_jax.model.cache import quantised
from gpt_jax.sample import platform as platforms
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.searches.beam import Beam
from gpt_jax.train.step import hyper_scalars, make_program

steps: dict[str, Any] = {}
decoders: dict[str, Any] = {}
KEPT: dict[str, tuple[str, ...]] = {"cached": (), "int8-cache": ("cache",), "int8-weights": ("weights",)}  # as int8
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


def build_decode(shape: str, mode: str, batch: int, beams: int, prompt: int, new: int, dtype: str) -> float:
    """Makes greedy generation, or beam search, ready and returns the seconds its first call took; the mode is one of
    ``KEPT``."""
    s = SHAPES[shape]
    config = config_of(s, dtype=dtype).model
    decoder = Decoder(config, jax.jit(gpt.init, static_argnums=0)(config, jax.random.key(0)), int8=KEPT[mode])
    prompts = random.integers(s.vocab, size=(batch, prompt)).tolist()

    how, seeds = Sampling(greedy=True), [0] * batch

    def tokens() -> list[list[int]]:
        if beams == 1:
            return decoder.generate(prompts, max_new_tokens=new, sampling=how, seeds=seeds).tokens
        found = Beam(beams).run(decoder, decoder.asked(prompts, new, how, seeds))
        return [texts[0].tokens for texts in found]

    def generate() -> None:
        if any(len(row) != new for row in tokens()):
            raise RuntimeError("the generation ended early")

    start = time.perf_counter()
    generate()
    decoders[f"{mode}-{batch}"] = generate
    return time.perf_counter() - start


def compare(shape: str, mode: str, batch: int, prompt: int, new: int, dtype: str) -> dict[str, float]:
    """What a mode of ``KEPT`` keeps, in bytes, and how far its greedy texts are from the exact ones.

    Returns: bytes of "weights" and "cache"; "same", the share of tokens before the first that differs; "error", the mean
    absolute difference of their log-probabilities
    """
    config = config_of(SHAPES[shape], dtype=dtype).model
    params = jax.jit(gpt.init, static_argnums=0)(config, jax.random.key(0))
    prompts = random.integers(config.vocab, size=(batch, prompt)).tolist()
    asked: Any = dict(max_new_tokens=new, sampling=Sampling(greedy=True), seeds=[0] * batch)
    decoder = Decoder(config, params, int8=KEPT[mode])
    exact, close = (made.generate(prompts, **asked) for made in (Decoder(config, params), decoder))
    same_BT = np.cumprod(np.equal(exact.tokens, close.tokens), axis=1)
    error_BT = np.abs(np.subtract(exact.logprobs, close.logprobs))

    def empty() -> Any:
        cache = nnx.merge(gpt.graphdef(decoder.config), decoder.unrolled(params)).init_cache(batch, prompt + new)
        return quantised(cache) if "cache" in KEPT[mode] else cache

    bytes_of = {"weights": decoder.weights, "cache": jax.eval_shape(empty)}
    sizes = {name: sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(tree)) for name, tree in bytes_of.items()}
    return {**sizes, "same": float(same_BT.mean()), "error": float((error_BT * same_BT).sum() / same_BT.sum())}


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
    serve({**commands, "build_decode": build_decode, "run_decode": run_decode, "weights": weights, "compare": compare})
