"""The gradient of every registered part in narrow dtypes and over micro-batches: ``python -m tests.train.every_gradient``.

A line a part. In float16 and bfloat16, how far the worst parameter's gradient is from float32's, relatively, for 64 and for
16,384 tokens: it must not grow with the batch. In float64, how far that of four micro-batches is from one's: by rounding.
``make test`` tries a few of them (test_gradients.py).
"""

import dataclasses
import sys

import jax
import numpy as np

from tests.model import variants
from tests.train import tiny
from tests.train.test_gradients import apart, gradient

LIMITS = {"float16": 0.005, "bfloat16": 0.03}  # of parts whose gradients are well conditioned
GROWTH = 2.0  # times the difference of a small batch, where that is larger: recurrences divide by what may be near 0
LENGTH = 16
BATCHES = (4, 1024)  # rows


def batch_of(rows: int, vocab: int) -> dict:
    draw = np.random.default_rng(0)
    tokens = draw.integers(vocab, size=(rows, LENGTH + 1)).astype(np.int32)
    tokens[:, 1::2] = (5 * tokens[:, :-1:2] + 1) % vocab  # every second one can be learned
    return {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], "weights": np.ones((rows, LENGTH), np.float32)}


def narrow(kind: str, call: str, dtype: str) -> list[float]:
    """The worst difference at each batch size."""
    model = variants.config(**{kind: call}, layers=1)
    model = dataclasses.replace(model, dropout=0.0)
    found = []
    for rows in BATCHES:
        batch = batch_of(rows, model.vocab)
        wanted = gradient(model, batch)[1]
        found.append(max(apart(gradient(dataclasses.replace(model, dtype=dtype), batch)[1], wanted).values()))
    return found


def accumulated(kind: str, call: str) -> float:
    with jax.enable_x64(True):
        model = dataclasses.replace(variants.config(**{kind: call}, layers=1), dtype="float64", dropout=0.0)
        (batch,) = tiny.batches(1, rows=4, context=12, vocab=model.vocab)
        batch["weights"][:2, :5] = 0
        whole, parts = (gradient(model, batch, train__accumulate=n)[1] for n in (1, 4))
        return max(apart(parts, whole).values())


def main() -> int:
    wrong = 0
    for kind, call in variants.VARIANTS:
        if kind == "attend":
            continue
        exact = accumulated(kind, call)
        said, good = [f"accumulated {exact:.0e}"], exact < 1e-11
        for dtype, most in LIMITS.items():
            small, large = narrow(kind, call, dtype)
            said.append(f"{dtype} {small:.4f} {large:.4f}")
            good &= large < max(most, GROWTH * small)
        wrong += not good
        print(f"{kind} {call}: {', '.join(said)}{'' if good else '  WRONG'}", flush=True)
    print(f"{wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
