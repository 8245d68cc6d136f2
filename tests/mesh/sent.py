"""What the compiled step of a small model sends and multiplies on a mesh of virtual devices, as JSON.

python -m tests.mesh.sent '{"fsdp": 64}' [VOCAB]
"""

import dataclasses
import json
import math
import os
import sys
from typing import Any

from tests import xla

MODEL = {
    "layers": 16,
    "width": 128,
    "heads": 8,
    "head_dim": 16,
    "vocab": 256,
    "context": 64,
    "attend": "xla",
    "bias": False,
    "scan": True,
}
ROWS = 2  # of a device that has texts of its own


def measured(mesh: dict[str, int], vocab: int) -> dict[str, Any]:
    """{"sent": "axes joined by +" -> bytes of a device, "products": FLOPs of a device, "model": FLOPs of the step}.

    Args:
      mesh: knobs; as many devices as they multiply to have to be there.
    """
    from gpt_jax.config import Config
    from gpt_jax.configs import base
    from gpt_jax.mesh import mesh as meshes
    from gpt_jax.mesh.planning.fit import layout_of
    from gpt_jax.mesh.planning.hlo import products
    from gpt_jax.mesh.planning.roofline import Shape, sent_bytes
    from gpt_jax.mesh.planning.traffic import by_axes, collectives
    from gpt_jax.train.plan import lowered

    settings = base.get_config()
    settings.model.update({**MODEL, "vocab": vocab})
    settings.mesh.update({"data": 1} | mesh)
    settings.train.batch = ROWS * math.prod(mesh.get(axis, 1) for axis in meshes.BATCH_AXES)
    config = Config.from_dict(settings.to_dict())
    made = meshes.make(config.mesh)
    text = lowered(config, made).compile().as_text()
    sent: dict[str, float] = {}
    for (axes, kind), size in by_axes(collectives(text, made.shape)).items():
        name = f"{'+'.join(axes)} {kind}"
        sent[name] = sent.get(name, 0) + size
    shape = Shape.of(config.model)
    layout = dataclasses.replace(layout_of(config, dict(made.shape)), gradients=4)
    return {
        "sent": sent,
        "products": products(text),
        "model": shape.model_flops * config.train.batch * shape.context,
        "closed": sent_bytes(shape, layout),
    }


if __name__ == "__main__":
    knobs = json.loads(sys.argv[1])
    devices = math.prod(knobs.values())
    os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla.flags(devices), "NPROC": str(2 * devices)}
    print(json.dumps(measured(knobs, int(sys.argv[2]) if len(sys.argv) > 2 else MODEL["vocab"])))
