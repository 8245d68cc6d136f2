"""Attention by kernels of one device, which compilers cannot split, on meshes."""

import jax
import numpy as np
import pytest

from gpt_jax.model import attend
from tests.mesh import parity

MODEL = {"model.dtype": "float32", "model.attention": "full", "model.head_dim": 16, "model.scan": True}
MESHES = [{"data": 8}, {"fsdp": 2, "tensor": 4}, {"data": 2, "context": 2, "tensor": 2}]


@pytest.mark.every(3)
@pytest.mark.parametrize("sizes", MESHES, ids=str)
@pytest.mark.parametrize("call", ["pallas(block=16, interpret=True)", "splash(interpret=True)"])
def test_a_step_is_the_step_of_one_device(call, sizes):
    knobs = {**MODEL, "model.attend": call, "mesh.context_strategy": "gather"}
    knobs |= {f"mesh.{axis}": size for axis, size in sizes.items()}
    if "context" in sizes:  # a kernel takes whole texts: each device some of their heads
        knobs["mesh.context_strategy"] = "ulysses"
    wanted = parity.step({**parity.alone(knobs), "model.attend": "xla"}, "packing", 1)
    found = parity.step(knobs, "packing")
    assert abs(found.loss - wanted.loss) < 1e-5
    for path, value in wanted.gradients.items():
        np.testing.assert_allclose(found.gradients[path], value, atol=2e-4 * np.abs(value).max(), err_msg=path)


def test_each_device_runs_the_kernel_of_its_rows_and_heads():
    found = []

    def run(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
        found.append((q_BNTH.shape, k_BKSH.shape, queries.order_BT.shape))
        return q_BNTH

    backend = attend.Backend("test", run, opaque=True)
    attend.registry.register("model.attend", "opaque_test")(lambda: backend)
    parity.step({**MODEL, "model.attend": "opaque_test", "mesh.fsdp": 2, "mesh.tensor": 4}, "plain")
    rows, context = parity.ROWS // 2, parity.CONTEXT
    assert set(found) == {((rows, 2, context, 16), (rows, 1, context, 16), (1, context))}


def test_auto_says_what_it_takes():
    auto = attend.backend("auto")
    chosen = {
        platform: auto.choose(platform, frozenset(), "bfloat16", 64, 64**2).name for platform in ("cpu", "gpu", "tpu")
    }
    assert chosen == {"cpu": "causal", "gpu": "cudnn", "tpu": "splash"}
    assert [attend.backend(name).opaque for name in ("splash", "pallas", "cudnn", "xla")] == [True, True, False, False]
    assert jax.default_backend() == "cpu"
