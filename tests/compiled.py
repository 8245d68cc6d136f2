"""Every variant, compiled several times: its logits and gradients are the same each time.

    python -m tests.compiled                                                     # all of them, with the flags that a run has
    python -m tests.compiled --fusions=LIBRARY_FUSION_TYPE_REDUCE retention      # another setting of XLA's, which is wrong

Some fusions make programs of which every second compilation computes something else (docs/performance.md).
"""

import tests.conftest  # noqa: F401, I001  before JAX: compile quickly, as the tests do

import argparse
import sys

import jax
import numpy as np
from tqdm import tqdm

from gpt_jax.backend import CPU_FLAGS
from gpt_jax.config import ModelConfig
from tests.model import variants

NAME, _, OURS = CPU_FLAGS[0].removeprefix("--").partition("=")
SIZE = {"layers": 1, "width": 64, "heads": 2, "kv_heads": 2, "head_dim": 32, "mlp_width": 256, "context": 32}
ROWS, TIMES = 64, 6  # a program of 32 rows, or of two layers, shows nothing
PROGRAMS = (variants.logits, variants.terms_and_grad)
NEAR = 1e-4  # of an array's largest value; rounding leaves 1e-6


def furthest(c: ModelConfig, times: int, fusions: str = OURS) -> float:
    """The largest distance of a compilation's logits or gradients from the first's, of each array's largest value; what is
    not finite is at no distance that is allowed."""
    params, tokens = variants.parameters(c), variants.tokens(c, ROWS, c.context)
    computed = []
    for _ in range(times):
        jax.clear_caches()
        programs = [jax.jit(one.__wrapped__, static_argnums=0).lower(c, params, tokens) for one in PROGRAMS]
        compiled = [program.compile({NAME: fusions}) for program in programs]
        computed.append([np.asarray(a, np.float64) for one in compiled for a in jax.tree.leaves(one(params, tokens))])
    pairs = [pair for other in computed[1:] for pair in zip(other, computed[0], strict=True)]
    return max(float(np.nan_to_num(abs(a - b).max() / (abs(b).max() or 1), nan=np.inf)) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="beginnings of variants' calls; all of them if none is named")
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--fusions", default=OURS, help=f"{NAME}; default: %(default)s")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    chosen = [v for v in variants.VARIANTS if v[1].startswith(tuple(arguments.names) or "")]
    wrong = 0
    for kind, call in tqdm(chosen):
        distance = furthest(variants.config(**SIZE | {kind: call}), arguments.times, arguments.fusions)
        wrong += distance > NEAR
        tqdm.write(f"{'DIFFERS' if distance > NEAR else 'same':8} {distance:.0e}  {kind}={call}", file=sys.stdout)
    print(f"{len(chosen)} variants, {arguments.times} compilations each: {wrong} differ")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
