"""Training steps of the GPU suite: GPT-2's sizes, and what changes their time."""

import functools
import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.gpu.pieces import Parts, Task
from gpt_jax import backend, registry
from gpt_jax.config import Config
from gpt_jax.configs import base, gpt2
from gpt_jax.mesh import mesh as meshes
from gpt_jax.model import flops
from gpt_jax.train.step import State, hyper_scalars, make_program

VOCAB = 50304  # GPT-2's, filled up to a multiple of 128
TOY = dict(layers=2, width=64, heads=2, vocab=256, context=64)
WARM = 4  # steps: XLA captures CUDA graphs in the second and updates them in the third
ROUNDS, ROUND = 5, 0.4  # rounds, and seconds of one
GIB = 2**30
BATCHES = (16, 32, 64)
hits: list[str] = []  # programs that came from the persistent cache


def _listen(event: str, **_: Any) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        hits.append(event)


jax.monitoring.register_event_listener(_listen)


def config_of(task: Task, size: str, batch: int, loss_chunk: int = 0, **model: Any) -> Config:
    """A GPT-2 in bfloat16, its layers stacked and compiled one by one, unless ``model`` says otherwise."""
    values = base.get_config()
    sizes = TOY if task.toy else {**gpt2.SIZES[size], "vocab": VOCAB, "context": 1024}
    values.model.update({**sizes, "scan": sizes["layers"], "dtype": "bfloat16", **model})
    values.optim.lr = 1e-4
    values.train.update(batch=max(1, batch // 8) if task.toy else batch, loss_chunk=loss_chunk)
    return Config.from_dict(values)


class Running:
    """A compiled training step and the state it advances."""

    def __init__(self, config: Config, options: dict[str, Any] | None = None, precision: str | None = None):
        self.config, self.mesh = config, meshes.make(config.mesh)
        jax.set_mesh(self.mesh)
        self.program, self.hyper = make_program(config, self.mesh), hyper_scalars(config)
        self.batch = self.put(0)
        start, before = time.perf_counter(), len(hits)
        with jax.default_matmul_precision(precision):
            lowered = self.program.step.lower(self.program.live, self.batch, self.hyper)
            self.lower_seconds = time.perf_counter() - start
            self.step = lowered.compile(compiler_options=options or None)
        self.compile_seconds = time.perf_counter() - start - self.lower_seconds
        self.cached = len(hits) > before
        self.memory = _memory(self.step)
        room = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
        if room and self.memory > room:
            raise MemoryError(f"the step takes {self.memory / GIB:.1f} GiB and there are {room / GIB:.1f}")
        self.state: State | None = None

    def put(self, seed: int) -> dict[str, jax.Array]:
        """A batch of random tokens on the devices."""
        random = np.random.default_rng(seed)
        shape = (self.config.train.batch, self.config.model.context)
        rows = {n: random.integers(self.config.model.vocab, size=shape, dtype=np.int32) for n in ("tokens", "targets")}
        return meshes.put_batch({**rows, "weights": np.ones(shape, np.float32)}, self.mesh)

    def run(self, count: int) -> float:
        """Seconds per step of ``count`` steps in a row, waited for at the end."""
        state = self.program.init(0) if self.state is None else self.state
        jax.block_until_ready(state)
        start = time.perf_counter()
        for _ in range(count):
            state, self.metrics = self.step(state, self.batch, self.hyper)
        jax.block_until_ready((state, self.metrics))
        self.state = state
        return (time.perf_counter() - start) / count

    def rounds(self) -> list[float]:
        """Seconds per step of each round, after warming up."""
        self.run(WARM)
        count = max(2, min(40, math.ceil(ROUND / self.run(2))))
        return [self.run(count) for _ in range(ROUNDS)]


def measure(config: Config, options: dict[str, Any] | None = None, precision: str | None = None) -> dict[str, Any]:
    """Time, rate and memory of the configuration's step, and what it took to compile."""
    running = Running(config, options, precision)
    times = running.rounds()
    m, seconds = config.model, statistics.median(times)
    rate = config.train.batch * m.context / seconds
    work = flops.flops_per_token(m, m.context, "nanogpt")
    peak = flops.peak(jax.devices())
    return {
        "ms": 1e3 * seconds,
        "tokens_per_second": rate,
        "mfu": rate * work / peak.flops if peak else None,
        "tflops": rate * work / 1e12,
        "memory_gib": running.memory / GIB,
        "peak_gib": (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / GIB,
        "compile_s": running.compile_seconds,
        "lower_s": running.lower_seconds,
        "from_cache": running.cached,
        "batch": config.train.batch,
        "context": m.context,
        "parameters": flops.parameters(m).total,
        "loss": float(running.metrics["loss"]),
        "skipped": int(running.metrics["skipped"]),
        "device": jax.devices()[0].device_kind,
        "rounds_ms": [1e3 * t for t in times],
    }


def step(task: Task) -> Parts:
    """GPT-2 124M by batch size."""
    for batch in BATCHES:
        yield f"batch {batch}", functools.partial(measure, config_of(task, "124m", batch))


def plain(task: Task) -> Parts:
    """GPT-2 124M at one batch size, for flags that only the environment can set."""
    yield "batch 32", functools.partial(measure, config_of(task, "124m", 32))


def medium(task: Task) -> Parts:
    return _first_that_fits(task, "355m", ((32, "none"), (16, "none"), (16, "full")))


def large(task: Task) -> Parts:
    return _first_that_fits(task, "774m", ((16, "none"), (8, "none"), (8, "full")))


def xl(task: Task) -> Parts:
    return _first_that_fits(task, "1558m", ((8, "none"), (8, "full"), (4, "full")))


def _first_that_fits(task: Task, size: str, tries: Sequence[tuple[int, str]]) -> Parts:
    for batch, remat in tries:
        found: list[dict] = []

        def attempt(batch=batch, remat=remat, found=found) -> dict[str, Any]:
            found.append(measure(config_of(task, size, batch, remat=remat)))
            return found[0]

        yield f"batch {batch}, remat {remat}", attempt
        if found:
            return


def logits(task: Task) -> Parts:
    """GPT-2 124M with the loss over chunks of tokens, and in one pass."""
    tokens = 1024 if not task.toy else TOY["context"]
    for batch, parts in ((32, (0, 1, 8)), (64, (1,))):
        rows = config_of(task, "124m", batch).train.batch
        for count in parts:  # 128 positions of 32 rows are a multiple of what the kernels of products take at once
            label = {0: "chunks chosen by size", 1: "one pass"}.get(count, f"{count} chunks")
            chunk = rows * tokens // count if count else 0
            yield f"batch {batch}, {label}", functools.partial(measure, config_of(task, "124m", batch, chunk))


def attention(task: Task) -> Parts:
    """GPT-2 124M with each attention backend; the fastest known first."""
    names = registry.names("model.attend")
    known = [name for name in ("cudnn", "pallas", "xla", "blockwise") if name in names]
    for name in [*known, *sorted(set(names) - {*known, "auto"})]:
        yield name, functools.partial(measure, config_of(task, "124m", 16, attend=name))


def layers(task: Task) -> Parts:
    """GPT-2 124M with its layers stacked and compiled one by one, four a turn, in a scan, and each an array by itself."""
    for label, scan in (("stacked", None), ("apart", False), ("scanned", True), ("scanned by four", 4)):
        yield label, functools.partial(measure, config_of(task, "124m", 16, **({} if scan is None else {"scan": scan})))


def dtype(task: Task) -> Parts:
    """GPT-2 124M by the dtype of activations and products. The attention is XLA's: cuDNN's takes no float32."""
    for name, precision in (("bfloat16", None), ("float32", "tensorfloat32"), ("float32", "highest")):
        label = f"{name}, {precision or 'default'} products"
        config = config_of(task, "124m", 16, dtype=name, attend="xla")
        yield label, functools.partial(measure, config, None, precision)


DEFAULTS: dict[str, Any] = {"xla_gpu_enable_triton_gemm": True, "xla_gpu_dot_merger_threshold_mb": 64}
ANY_ORDER: dict[str, Any] = dict.fromkeys(backend.GPU_EXACT, False)
FLAGS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "XLA's defaults": DEFAULTS,
    "triton_gemm=true": {"xla_gpu_enable_triton_gemm": True},
    "dot_merger_threshold_mb=64": {"xla_gpu_dot_merger_threshold_mb": 64},
    "fusion_autotuner=false": {"xla_gpu_experimental_enable_fusion_autotuner": False},
    "sums in any order": ANY_ORDER,
}


def flags(task: Task) -> Parts:
    """GPT-2 124M with settings of XLA, one at a time."""
    for label, options in FLAGS.items():
        yield label, functools.partial(measure, config_of(task, "124m", 16), options)


def _memory(compiled: jax.stages.Compiled) -> int:
    """Bytes of arguments, outputs and temporaries, by the compiler's own count; 0 where it does not tell."""
    a = compiled.memory_analysis()
    if a is None:
        return 0
    held = a.argument_size_in_bytes + a.output_size_in_bytes - a.alias_size_in_bytes
    return held + a.temp_size_in_bytes
