"""Compiles the training step of every mesh of eight devices by the compiler of accelerators that are not at hand.

    python -m tests.mesh.compilers v5e:2x4      # needs requirements/tpu.txt
    python -m tests.mesh.compilers h100:1x8     # needs requirements/gpu.txt

Prints a line a mesh; exits with 1 if one does not compile, with 2 without the compiler. `make kernels` does both. What the
numbers are is another matter: tests/mesh/parity.py.
"""

import dataclasses
import sys
import time

from gpt_jax.backend import compiling_for
from gpt_jax.errors import UserError
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.planning import topology as topologies
from gpt_jax.mesh.planning.traffic import by_axes, collectives
from gpt_jax.mesh.spread import check
from gpt_jax.train import plan
from tests.mesh import parity

# Of sizes that the units of an accelerator are made for, and attention by their kernels.
MODEL = {"width": 256, "heads": 8, "kv_heads": 8, "head_dim": 64, "mlp_width": 512, "vocab": 512, "context": 1024}
MODEL |= {"attention": ("full", "full"), "dtype": "bfloat16"}


def main() -> int:
    topology = topologies.parse(sys.argv[1])
    if not topologies.compiler(topology):
        print(f"the compiler of {topology.name} is not installed", file=sys.stderr)
        return 2
    topologies.ready()
    devices = topologies.devices(topology)
    print(f"by {topologies.compiler(topology)}: mesh, seconds, temporaries, sent by a device", flush=True)
    failed = 0
    for name, knobs in parity.layouts().items():
        said, good = _compiled(knobs, devices)
        failed += not good
        print(f"{name}: {said}", flush=True)
    return int(failed > 0)


def _compiled(knobs: dict, devices: list) -> tuple[str, bool]:
    config = parity.config_of(knobs, "plain")
    asked = {name.removeprefix("model.") for name in knobs}
    sizes = {name: size for name, size in MODEL.items() if name not in asked}
    if "vocab" in asked:  # an odd one
        sizes["vocab"] = MODEL["vocab"] - 3
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, **sizes))
    start = time.perf_counter()
    try:
        mesh = meshes.over(config.mesh, devices)
        check(mesh, config)
        with compiling_for(devices[0].platform):
            compiled = plan.lowered(config, mesh).compile()
    except UserError as error:
        return f"refused: {error.what}", True
    except Exception as error:
        return f"FAILED: {type(error).__name__}: {str(error).splitlines()[0][:150]}", False
    sent = by_axes(collectives(compiled.as_text(), mesh.shape))
    parts = ", ".join(f"{'+'.join(axes)} {kind} {size / 2**20:.1f}" for (axes, kind), size in sorted(sent.items()))
    temporaries = compiled.memory_analysis().temp_size_in_bytes / 2**20
    return f"{time.perf_counter() - start:.1f} s, {temporaries:.0f} MiB; {parts}", True


if __name__ == "__main__":
    sys.exit(main())
