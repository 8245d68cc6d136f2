"""Where a training step's time goes on the device: its kernels, summed by the part of the step that they belong to."""

import collections
import functools
import re
import tempfile
from pathlib import Path
from typing import Any

import jax

from benchmarks.gpu import hlo, steps
from benchmarks.gpu.pieces import Parts, Task

TRACED = 3  # steps
LISTED = 25  # kernels, those that take longest
UNKNOWN = "not in the program"  # memory is set and copied, libraries launch helpers


def profile(task: Task) -> Parts:
    """GPT-2 124M and 774M, on the device's own clock."""
    for size, batch in (("124m", 16), ("774m", 16)):
        yield f"{size}, batch {batch}", functools.partial(_profile, steps.config_of(task, size, batch))


def _profile(config) -> dict[str, Any]:
    running = steps.Running(config)
    running.run(steps.WARM)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            seconds = running.run(TRACED)
        events = kernel_events(Path(folder))
    parts = {k.instruction.name: k for k in hlo.kernels(running.step.as_text())}
    m = config.model
    by_kernel: dict[tuple[str, str, str], list[float]] = collections.defaultdict(lambda: [0.0, 0])
    for kernel, operation, nanoseconds in events:
        part = parts.get(operation) or parts.get(_dotted(kernel))
        kind = hlo.category(part, m.vocab, m.width) if part else UNKNOWN
        row = by_kernel[kind, kernel, part.instruction.source if part else ""]
        row[0] += nanoseconds / 1e6 / TRACED
        row[1] += 1
    by_category: dict[str, float] = collections.defaultdict(float)
    for (kind, *_), (ms, _) in by_kernel.items():
        by_category[kind] += ms
    top = sorted(by_kernel.items(), key=lambda item: -item[1][0])[:LISTED]
    return {
        "ms": 1e3 * seconds,
        "kernels_ms": sum(by_category.values()),
        "launches": sum(count for _, count in by_kernel.values()) / TRACED,
        "categories": dict(sorted(by_category.items(), key=lambda item: -item[1])),
        "top": [[ms, count / TRACED, kernel, kind, source] for (kind, kernel, source), (ms, count) in top],
        "device": jax.devices()[0].device_kind,
    }


def kernel_events(folder: Path) -> list[tuple[str, str, float]]:
    """(kernel, HLO instruction or "", nanoseconds) of everything that a trace saw on devices, or on a CPU's threads."""
    found = []
    for path in folder.rglob("*.xplane.pb"):
        planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
        devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
        for plane in devices or [plane for plane in planes if plane.name == "/host:CPU"]:
            for line in plane.lines:
                if devices and not line.name.startswith("Stream"):
                    continue
                for event in line.events:
                    stats = dict(event.stats)
                    if devices or "hlo_op" in stats:
                        found.append((event.name, str(stats.get("hlo_op", "")), event.duration_ns))
    return found


def _dotted(kernel: str) -> str:
    """The instruction that a kernel is named after: XLA writes fusion_12 for fusion.12."""
    return re.sub(r"_(\d+)$", r".\1", kernel)
