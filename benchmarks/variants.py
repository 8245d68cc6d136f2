"""A training step of every variant, relative to GPT-2's part in its place.

python -m benchmarks.variants             # writes benchmarks/results/variants.json
python -m benchmarks.table docs/performance.md
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks import report
from benchmarks.worker import seconds
from gpt_jax import backend, registry
from gpt_jax.config import Config, ModelConfig
from gpt_jax.configs import base
from gpt_jax.mesh import processes
from gpt_jax.model import gpt

KINDS = ("attention", "position", "norm", "mlp", "block")
SIZES = dict(layers=4, width=256, heads=4, context=1024, vocab=1024)
BATCH = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    backend.tune()
    processes.start_processes()
    results: dict[str, Any] = {"machine": report.machine(), "sizes": SIZES, "batch": BATCH, "kinds": {}}
    for kind in KINDS:
        results["kinds"][kind] = measure(kind, options.rounds)
    print(f"wrote {report.write('variants', results)}")


def measure(kind: str, rounds: int) -> dict[str, Any]:
    """Call -> seconds of a gradient, and how many times those of the default it takes."""
    default = getattr(model(), kind)
    default = default if isinstance(default, str) else default[0]
    names = [name for name in registry.names(f"model.{kind}") if name != default]
    turns = {}
    for call in [default, *(registry.typical(f"model.{kind}", name) for name in names)]:
        step = gradient(model(**{kind: call}))
        step()
        turns[call] = functools.partial(seconds, step)
    times = report.interleave(turns, rounds)
    found = {
        call: {"seconds": report.summary(t), "relative": report.ratio(times[default], t)} for call, t in times.items()
    }
    for call, values in found.items():
        print(
            f"{kind} {call}: {values['seconds']['median'] * 1e3:.0f} ms, {values['relative']['median']:.2f}", flush=True
        )
    return found


def model(**changes: str) -> ModelConfig:
    values = base.get_config()
    values.model.update(SIZES)
    for knob, call in changes.items():
        values.model[knob] = call
    return Config.from_dict(values).model


def gradient(config: ModelConfig):
    """A call that computes the gradient of a batch and waits."""
    graphdef = gpt.graphdef(config)
    params = jax.jit(functools.partial(gpt.init, config))(jax.random.key(0))
    tokens_BT = jax.random.randint(jax.random.key(1), (BATCH, config.context), 0, config.vocab)

    def loss(params):
        logits_BTV = nnx.merge(graphdef, params)(tokens_BT)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits_BTV), tokens_BT[..., None], axis=-1).mean()

    program = jax.jit(jax.grad(loss)).lower(params).compile()
    return lambda: jax.block_until_ready(program(params))


if __name__ == "__main__":
    main()
