"""What the tests show on CPUs, shown on the accelerator at hand.

    python -m tests.device [backends training decoding]

1. Every attention backend that the device has, forward and backward, against the reference in float32.
2. A run's losses against the same run's on this machine's CPU, and against itself, again and resumed half way: to the
   last bit.
3. Tokens that cached decoding draws, against the whole forward pass.

Prints what it finds; exits with 1 where something is beyond its limit.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax import registry
from gpt_jax.model import gpt
from gpt_jax.model.attend import backend
from gpt_jax.sample.decode import Decoder, Sampling
from tests.model.attended import SPECS, gradient, shapes
from tests.train import tiny

ROOT = Path(__file__).resolve().parents[1]
# Of ||ours - reference|| / ||reference||, by the operands' dtype.
LIMITS = {"bfloat16": 2e-2, "float32": 1e-5}
LOSSES = 1e-5  # relative, of 40 steps
STEPS = 40


def main() -> int:
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    checks = {"backends": check_backends, "training": check_training, "decoding": check_decoding}
    found = [checks[name](jax.default_backend()) for name in sys.argv[1:] or checks]
    return int(not all(found))


def check_backends(platform: str) -> bool:
    """Errors of outputs' gradients, the largest of q, k and v; a packed batch is the last column."""
    print(f"\n| backend | dtype | {' | '.join(SPECS)} | packed |")
    print("|---" * (len(SPECS) + 3) + "|")
    good = True
    for dtype, limit in LIMITS.items():
        for name in registry.names("model.attend"):
            if name in ("auto", "reference") or backend(name).refusal(frozenset(), platform, dtype):
                continue
            cells = [(spec, False) for spec in SPECS.values()] + [(SPECS["causal"], True)]
            row = []
            for spec, packed in cells:
                asked = spec.features | ({"segments"} if packed else set())
                refused = backend(name).refusal(asked, platform, dtype)
                row.append("refused" if refused else error(name, spec, packed, dtype))
            good &= all(cell == "refused" or cell <= limit for cell in row)
            told = " | ".join(cell if isinstance(cell, str) else f"{cell:.1e}" for cell in row)
            print(f"| `{name}` | {dtype} | {told} |", flush=True)
    return good


def error(name: str, spec, packed: bool, dtype: str) -> float:
    """The largest relative error of the three gradients."""
    draw = np.random.default_rng(0)
    arrays = [jnp.asarray(draw.standard_normal(s.shape, np.float32), s.dtype) for s in shapes(dtype)[:4]]
    segments_BT = jnp.asarray(np.sort(draw.integers(5, size=shapes(dtype)[4].shape), axis=1), jnp.int32)
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(gradient(backend(name), spec, packed))(*arrays, segments_BT)
        exact = [a.astype(jnp.float32) for a in arrays]
        theirs = jax.jit(gradient(backend("reference"), spec, packed))(*exact, segments_BT)
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(ours, theirs, strict=True)]
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)


def check_training(platform: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text("".join(random.Random(0).choices(["the ", "cat ", "sat ", "on ", "a ", "mat.\n"], k=5000)))

        def losses(name: str, platforms: str, steps: int = STEPS) -> list[float]:
            workdir = Path(folder) / name
            changes = {"model__width": 64, "model__layers": 2, "train__steps": steps, "train__save_every": STEPS // 2}
            command = tiny.command(text, workdir, optim__schedule="constant", **changes)
            # The CPU's products are float32's; a GPU's are TF32's unless it is told.
            environment = os.environ | {"JAX_PLATFORMS": platforms, "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
            run = dict(cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
            subprocess.run([sys.executable, "launch.py", *command], check=True, **run)
            lines = (workdir / "metrics.jsonl").read_text().splitlines()
            return [row["train/loss"] for row in map(json.loads, lines) if "train/loss" in row]

        whole, again, cpu = losses("whole", ""), losses("again", ""), losses("cpu", "cpu")
        losses("parts", "", STEPS // 2)
        parts = losses("parts", "")

    def differ(others: list[float]) -> float:
        return max(abs(a - b) / b for a, b in zip(others, whole, strict=True))

    print(f"\n{STEPS} steps: the CPU's losses differ by {differ(cpu):.1e} at most ({LOSSES:.0e} allowed)")
    print(f"the same again: {differ(again):.1e}; resumed half way: {differ(parts):.1e} (0 wanted)", flush=True)
    return differ(cpu) <= LOSSES and again == parts == whole


def check_decoding(platform: str) -> bool:
    """Greedy tokens from the cache, which the model's whole forward pass has to prefer as well."""
    config = tiny.config(model__width=64, model__layers=2, model__context=64).model
    params = jax.jit(gpt.init, static_argnums=0)(config, jax.random.key(0))
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11]]
    with jax.default_matmul_precision("highest"):
        decoder = Decoder(config, params)
        written = decoder.generate(prompts, max_new_tokens=40, sampling=Sampling(greedy=True), seeds=[0] * 3)
        forward = jax.jit(lambda tokens: nnx.merge(gpt.graphdef(config), params)(tokens))
        worst = 0.0
        for prompt, new, logprobs in zip(prompts, written.tokens, written.logprobs, strict=True):
            logp_TV = jax.nn.log_softmax(forward(jnp.asarray([prompt + new])))[0, len(prompt) - 1 : -1]
            theirs = np.take_along_axis(np.asarray(logp_TV), np.asarray(new)[:, None], axis=1)[:, 0]
            worst = max(worst, float(np.abs(theirs - np.asarray(logprobs)).max()))
    print(f"cached decoding: log probabilities differ by {worst:.1e} at most (1e-4 allowed)", flush=True)
    return worst <= 1e-4


if __name__ == "__main__":
    sys.exit(main())
