"""What is read in the HLO of a step for a GPU: kernels, their bytes and FLOPs, and what a step must not have."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import hlo, promises, steps
from benchmarks.gpu.pieces import Task

ROOT = Path(__file__).resolve().parents[1]
MADE_BY = 'metadata={op_name="jit(train_step)/jvp()/dot_general"}'
PRODUCT = 'custom_call_target="__cublas$lt$matmul", backend_config={"lhs_contracting_dimensions":["1"]}'
ATTENTION = 'custom_call_target="__cudnn$fmhaSoftmax"'

# A step of one layer that is as it should be: V 50304, D 768, two rows of 1024 tokens.
STEP = (
    f"""
HloModule jit_train_step

%fused_gather (p0: f32[50304,768], p1: s32[2048,1]) -> bf16[2048,768] {{
  %p0 = f32[50304,768]{{1,0}} parameter(0)
  %p1 = s32[2048,1]{{1,0}} parameter(1)
  %gather.1 = f32[2048,768]{{1,0}} gather(%p0, %p1), offset_dims={{1}}
  ROOT %cast.1 = bf16[2048,768]{{1,0}} convert(%gather.1)
}}

%fused_scatter (p0: f32[50304,768], p1: s32[2048,1], p2: f32[2048,768]) -> f32[50304,768] {{
  %p0 = f32[50304,768]{{1,0}} parameter(0)
  %p1 = s32[2048,1]{{1,0}} parameter(1)
  %p2 = f32[2048,768]{{1,0}} parameter(2)
  ROOT %scatter.1 = f32[50304,768]{{1,0}} scatter(%p0, %p1, %p2), unique_indices=true, to_apply=%second
}}

ENTRY %main (w: f32[50304,768], tokens: s32[2048,1], head: bf16[768,50304], x: bf16[2048,768]) -> f32[50304,768] {{
  %w = f32[50304,768]{{1,0}} parameter(0)
  %tokens = s32[2048,1]{{1,0}} parameter(1)
  %head = bf16[768,50304]{{1,0}} parameter(2)
  %x = bf16[2048,768]{{1,0}} parameter(3)
  %gather_fusion = bf16[2048,768]{{1,0}} fusion(%w, %tokens), kind=kLoop, calls=%fused_gather
  %q = bf16[2,1024,12,64]{{3,2,1,0}} bitcast(%gather_fusion)
  %attend = (bf16[2,12,1024,64]{{3,1,2,0}}, u8[0]{{0}}) custom-call(%q, %q, %q), {ATTENTION}
  %attended = bf16[2,12,1024,64]{{3,1,2,0}} get-tuple-element(%attend), index=0
  %attend_back = (bf16[2,12,1024,64]{{3,1,2,0}}, u8[64]{{0}}) custom-call(%q, %q, %attended), {ATTENTION[:-1]}Backward"
  %logits = (f32[2048,50304]{{1,0}}, s8[4194304]{{0}}) custom-call(%x, %head), {PRODUCT}, {MADE_BY}
  %logits.1 = f32[2048,50304]{{1,0}} get-tuple-element(%logits), index=0
  %loss_fusion = bf16[2048,50304]{{1,0}} fusion(%logits.1), kind=kInput, calls=%fused_gather
  %dx = (bf16[2048,768]{{1,0}}, s8[64]{{0}}) custom-call(%loss_fusion, %head), {PRODUCT}
  %dw = (bf16[50304,768]{{1,0}}, s8[64]{{0}}) custom-call(%loss_fusion, %x), {PRODUCT.replace('"1"', '"0"')}
  ROOT %scatter_fusion = f32[50304,768]{{1,0}} fusion(%w, %tokens, %x), kind=kInput, calls=%fused_scatter
}}
""".replace("fusion(%logits.1), kind=kInput, calls=%fused_gather", "fusion(%logits.1), kind=kInput, calls=%fused_loss")
    + """
%fused_loss (p0: f32[2048,50304]) -> bf16[2048,50304] {
  %p0 = f32[2048,50304]{1,0} parameter(0)
  ROOT %cast.2 = bf16[2048,50304]{1,0} convert(%p0)
}
"""
)
FAULTS = {
    "moves what attend reads": (
        "%q = bf16[2,1024,12,64]{3,2,1,0} bitcast(%gather_fusion)",
        "%copy.1 = bf16[2,1024,12,64]{3,2,1,0} copy(%gather_fusion)\n"
        "  %q = bf16[2,1024,12,64]{3,2,1,0} bitcast(%copy.1)",
    ),
    "calls of cuDNN's attention, of 2": ("__cudnn$fmhaSoftmaxBackward", "triton_kernel_call"),
    "an embedding that was cast": (
        "%p0 = f32[50304,768]{1,0} parameter(0)\n  %p1 = s32[2048,1]{1,0} parameter(1)\n  %g",
        "%p0 = bf16[50304,768]{1,0} parameter(0)\n  %p1 = s32[2048,1]{1,0} parameter(1)\n  %g",
    ),
    "multiplies float32 logits": ("%loss_fusion = bf16", "%loss_fusion = f32"),
    "differs from run to run": ("unique_indices=true", "unique_indices=false"),
    "waits for the host": ("ROOT %scatter_fusion", "%send.1 = token[] send(%x)\n  ROOT %scatter_fusion"),
    "where 3 compute all of them once": ("f32[2048,50304]{1,0}, s8", "f32[1024,50304]{1,0}, s8"),
}


@pytest.fixture(scope="module")
def config():
    return steps.config_of(Task(False, Path()), "124m", 2, layers=1, scan=1)


def test_a_step_as_it_should_be(config):
    assert promises.broken(STEP, config) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(config, fault):
    was, is_now = FAULTS[fault]
    assert was in STEP
    found = promises.broken(STEP.replace(was, is_now), config)
    assert any(fault in said for said in found), found


def test_bytes_and_flops():
    kernels = {k.instruction.name: k for k in hlo.kernels(STEP)}
    gather, logits, scatter = (kernels[name] for name in ("gather_fusion", "logits", "scatter_fusion"))
    rows = 2048 * 768
    assert gather.read == 4 * rows + 4 * 2048 and gather.written == 2 * rows  # of the table only the rows
    assert logits.flops == 2 * rows * 50304 and logits.written == 4 * 2048 * 50304  # without room to work in
    assert (
        kernels["attend"].flops == 2 * 2 * 12 * 1024**2 * 64
        and kernels["attend_back"].flops == 2.5 * kernels["attend"].flops
    )
    parts = {name: hlo.category(k, 50304, 768) for name, k in kernels.items()}
    assert parts["loss_fusion"] == "loss" and parts["attend_back"] == "attention"
    assert {parts[name] for name in ("logits", "dx", "dw")} == {"products of the logits"}
    assert hlo.category(scatter, 50304, 768) == "embedding"


def test_loops_count_their_turns():
    loop = """
%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %exp.1 = f32[8]{0} exponential(%x)
  ROOT %t = (s32[], f32[8]{0}) tuple(%x, %exp.1)
}

ENTRY %main (a: f32[8]) -> (s32[], f32[8]) {
  %a = f32[8]{0} parameter(0)
  ROOT %w = (s32[], f32[8]{0}) while(%a), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"12"}}
}
"""
    (kernel,) = hlo.kernels(loop)
    assert (kernel.count, kernel.read, kernel.written) == (12, 32, 32)


@pytest.mark.skipif(
    not any(importlib.util.find_spec(name) for name in ("jax_cuda13_plugin", "jax_cuda12_plugin")),
    reason="needs the compiler of requirements/gpu.txt; make predict installs it and checks the same",
)
def test_the_step_that_is_compiled_for_a_gpu():
    command = [sys.executable, "-m", "benchmarks.gpu.predict", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
