"""The conformance table: every mechanism, position and backend computes what it says, or refuses.

    python -m tests.conformance            # every cell; writes docs/conformance.md

A cell compares a small model with itself in float64 on the reference backend, which tests/model/test_attend.py holds
against NumPy. Checks and their limits are in ``CHECKS``. Kernels for other devices run interpreted.
"""

import tests.conftest  # noqa: F401, I001  before JAX: compile quickly, as the tests do

import argparse
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from tests.model.variants import config, has_backend, model, parameters, tokens

TABLE = Path(__file__).resolve().parents[1] / "docs" / "conformance.md"
LENGTH, DOCUMENTS, PROMPT = 20, (8, 12), 12
MORE = ("full(qk_norm='rms', softcap=4.0, sink=True, gate=True, head_scale=True)",)


@dataclasses.dataclass(frozen=True)
class Cell:
    """A mechanism, a position and a backend, as calls."""

    mechanism: str
    position: str
    backend: str

    def config(self, **changes) -> ModelConfig:
        calls = {"attention": self.mechanism, "position": self.position, "attend": self.backend}
        return config(**calls | {"layers": 1} | changes)

    def oracle(self) -> ModelConfig:
        return self.config(attend="reference", dtype="float64")


def cells() -> list[Cell]:
    """Of the first example of each variant. Mechanisms without a softmax have no backend; they stand with the first."""
    mechanisms, positions, backends = (first(f"model.{kind}") for kind in ("attention", "position", "attend"))
    return [
        Cell(*calls)
        for calls in itertools.product([*mechanisms, *MORE], positions, backends)
        if calls[2] == backends[0] or has_backend(calls[0])
    ]


def first(kind: str) -> list[str]:
    """The first example of each variant that has one."""
    return [call for name in registry.names(kind) for call in registry.examples(kind, name)[:1]]


# How a check runs a function of a configuration and arrays. For the whole table nothing is compiled as a whole: operation
# by operation, most of what a cell runs has been compiled for another. For a few cells programs take less.
Run = Callable


def by_operation(function, c: ModelConfig, *arrays):
    return function(c, *arrays)


as_programs = jax.jit(by_operation, static_argnums=(0, 1))


def _logits(c, params, *batch):
    return model(c, params)(*batch)


def _gradient(c, params, tokens_BT):
    def loss(params):
        logits_BTV = model(c, params)(tokens_BT)
        weights = jax.random.normal(jax.random.key(5), logits_BTV.shape, jnp.float32)
        return (jax.nn.log_softmax(logits_BTV) * weights).sum()

    return jax.grad(loss)(params)


@functools.lru_cache(maxsize=8)
def _truth(c: ModelConfig, what: str, run: Run):
    """In float64: the logits of two rows, of the packed documents one by one, or the gradients."""
    single = parameters(dataclasses.replace(c, dtype="float32"))  # outside: they are kept for runs in float32 too
    with jax.enable_x64(True):
        params = jax.tree.map(np.float64, single)
        rows = tokens(c, 2, LENGTH)
        if what == "logits":
            return np.asarray(run(_logits, c, params, rows))
        if what == "gradient":
            return jax.tree.map(np.asarray, run(_gradient, c, params, rows))
        parts = np.split(rows[:1], np.cumsum(DOCUMENTS)[:-1], axis=1)
        return np.concatenate([np.asarray(run(_logits, c, params, part)) for part in parts], axis=1)


def forward(cell: Cell, run: Run) -> float:
    c, truth = cell.config(), _truth(cell.oracle(), "logits", run)
    return _relative(run(_logits, c, parameters(c), tokens(c, 2, LENGTH)), truth)


def gradients(cell: Cell, run: Run) -> float:
    c, truth = cell.config(), _truth(cell.oracle(), "gradient", run)
    got = run(_gradient, c, parameters(c), tokens(c, 2, LENGTH))
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(truth))
    errors = jax.tree.map(lambda a, b: np.abs(a - b).max() / (np.abs(b).max() + 0.01 * largest), got, truth)
    return float(max(jax.tree.leaves(errors)))


def packed(cell: Cell, run: Run) -> float:
    c, truth = cell.config(), _truth(cell.oracle(), "packed", run)
    segments_1T = np.repeat(np.arange(len(DOCUMENTS)), DOCUMENTS)[None]
    positions_1T = np.concatenate([np.arange(n) for n in DOCUMENTS])[None]
    return _relative(run(_logits, c, parameters(c), tokens(c, 2, LENGTH)[:1], positions_1T, segments_1T), truth)


def decode(cell: Cell, run: Run) -> float:
    """Greedy tokens through the cache against the argmax of the whole forward pass in float64: the share that differs."""
    c = cell.config()
    prompt = tokens(c, 2, PROMPT)
    params = parameters(c)
    cache = model(c, params).init_cache(2, LENGTH)
    out, part, start = prompt, prompt, 0
    while out.shape[1] < LENGTH:
        at_BT = np.broadcast_to(np.arange(start, start + part.shape[1]), part.shape)
        logits_BTV, cache = run(_extend, c, params, part, cache, start, at_BT)
        start += part.shape[1]
        part = np.asarray(logits_BTV[:, -1:].argmax(-1), np.int32)
        out = np.concatenate([out, part], axis=1)
    with jax.enable_x64(True):
        whole = np.asarray(run(_logits, cell.oracle(), jax.tree.map(np.float64, params), out))
    return float((whole[:, PROMPT - 1 : -1].argmax(-1) != out[:, PROMPT:]).mean())


def _extend(c, params, part, cache, start, at_BT):
    m = model(c, params)
    x_BTD, cache = m.extend(part, cache, start, at_BT)
    return m.logits(x_BTD), cache


def bfloat16(cell: Cell, run: Run) -> float:
    c = cell.config(dtype="bfloat16")
    return _relative(
        run(_logits, c, parameters(cell.config()), tokens(c, 2, LENGTH)), _truth(cell.oracle(), "logits", run)
    )


def _relative(got, truth) -> float:
    error = float(np.abs(np.asarray(got, np.float64) - truth).max() / np.abs(truth).max())
    return error if np.isfinite(error) else float("inf")


# Largest error relative to the largest value; for decoding the share of tokens that differ.
CHECKS: dict[str, tuple[Callable[[Cell, Run], float], float]] = {
    "forward": (forward, 1e-5),
    "gradients": (gradients, 1e-4),
    "packed": (packed, 1e-5),
    "decode": (decode, 0.0),
    "bf16": (bfloat16, 0.05),
}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The error of a check, or why it was refused."""

    error: float
    limit: float
    refusal: str = ""

    @property
    def ok(self) -> bool:
        return bool(self.refusal) or self.error <= self.limit


def verdicts(cell: Cell, run: Run) -> Iterator[tuple[str, Verdict]]:
    """The verdict of each check. What the model refuses when it is built is refused by all of them."""
    for name, (check, limit) in CHECKS.items():
        try:
            yield name, Verdict(check(cell, run), limit)
        except UserError as refusal:
            yield name, Verdict(0.0, limit, refusal.what)


def render(results: dict[Cell, dict[str, Verdict]]) -> str:
    """The table as Markdown: one row for a mechanism and position, one column for a backend."""
    backends = list(dict.fromkeys(cell.backend for cell in results))
    refusals: dict[str, int] = {}
    lines = [INTRODUCTION, "| mechanism | position | " + " | ".join(f"`{b}`" for b in backends) + " |"]
    lines.append("|---|---" + "|---" * len(backends) + "|")
    for mechanism, position in dict.fromkeys((c.mechanism, c.position) for c in results):
        row = [_summary(results.get(Cell(mechanism, position, b)), refusals) for b in backends]
        lines.append(f"| `{mechanism}` | `{position}` | " + " | ".join(row) + " |")
    lines += ["", "## Refusals"] + [f"{number}. {text}" for text, number in refusals.items()]
    checked = [v for found in results.values() for v in found.values()]
    counts = sum(not v.refusal and v.ok for v in checked), sum(bool(v.refusal) for v in checked)
    wrong = len(checked) - sum(counts)
    lines += ["", f"{len(checked)} checks: {counts[0]} within their limits, {counts[1]} refused, {wrong} wrong.", ""]
    return "\n".join(lines)


def _summary(found: dict[str, Verdict] | None, refusals: dict[str, int]) -> str:
    """Letters of the checks that passed, in order, and numbers of the refusals of the others."""
    if found is None:
        return "n/a"
    marks = []
    for name, verdict in found.items():
        if verdict.refusal:
            marks.append(f"{name[0]}:{refusals.setdefault(verdict.refusal, len(refusals) + 1)}")
        else:
            marks.append(name[0] if verdict.ok else f"**{name}: {verdict.error:.1e}**")
    reasons = {mark.partition(":")[2] for mark in marks}
    return f"refused ({reasons.pop()})" if len(reasons) == 1 and "" not in reasons else " ".join(marks)


INTRODUCTION = f"""# What computes what it says

Made by `make conformance`. Every mechanism with every position on every backend of the attention core, as a small model
against itself in float64 on the reference backend, which is itself tested against NumPy. A letter is a check that
passed, a number a refusal listed below; bold would be wrong. n/a: the mechanism has no softmax, so no backend.

* **f**orward: logits within {CHECKS["forward"][1]:g} of the largest, float32
* **g**radients: each parameter's within {CHECKS["gradients"][1]:g} of its largest
* **p**acked: documents in one row give what each gives alone, within {CHECKS["packed"][1]:g}
* **d**ecode: greedy tokens through the cache are those of the whole forward pass, every one
* **b**f16: logits within {CHECKS["bf16"][1]:g} of the largest

`cudnn(interpret=True)` lets XLA compute what cuDNN is asked for; `pallas` and `splash` run their kernels interpreted.
`make kernels` compiles them, forward and backward, for the devices they are meant for.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=TABLE)
    out = parser.parse_args().out
    results = {cell: dict(verdicts(cell, by_operation)) for cell in tqdm(cells())}
    out.write_text(render(results), encoding="utf-8")
    wrong = [(cell, name, v) for cell, found in results.items() for name, v in found.items() if not v.ok]
    for cell, name, verdict in wrong:
        print(f"{cell}: {name} {verdict.error:.2e}, {verdict.limit:g} is allowed")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
