"""Schedules at known points, against their published formulas."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.train import schedules

WARMUP, STEPS = 10, 110


def factor(call, step, warmup=WARMUP, steps=STEPS):
    return float(registry.build("train.schedules", call)(jnp.float32(step), jnp.float32(warmup), jnp.float32(steps)))


def nanogpt(step, lr, min_lr):
    """get_lr of nanoGPT's train.py."""
    if step < WARMUP:
        return lr * (step + 1) / (WARMUP + 1)
    if step > STEPS:
        return min_lr
    ratio = (step - WARMUP) / (STEPS - WARMUP)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (lr - min_lr)


def test_cosine_is_nanogpts():
    ours = [factor("cosine(final=0.1)", step) for step in range(STEPS + 20)]
    np.testing.assert_allclose(ours, [nanogpt(step, 1.0, 0.1) for step in range(STEPS + 20)], rtol=2e-6)


@pytest.mark.parametrize(
    "call, points",
    [
        ("constant", {10: 1, 60: 1, 110: 1}),
        ("linear", {10: 1, 35: 0.75, 60: 0.5, 110: 0, 200: 0}),
        ("linear(final=0.5)", {10: 1, 60: 0.75, 110: 0.5}),
        ("rsqrt", {10: 1, 40: 0.5, 90: 1 / 3, 1000: 0.1}),
        # 1 - sqrt over the last 22 of 110 steps: a quarter of them in, half the way down.
        ("wsd(decay=0.2)", {10: 1, 88: 1, 93.5: 0.5, 110: 0}),
        ("wsd(decay=0.2, final=0.2)", {88: 1, 93.5: 0.6, 110: 0.2}),
    ],
)
def test_known_points(call, points):
    for step, value in points.items():
        assert factor(call, step) == pytest.approx(value, abs=2e-6), step


@pytest.mark.parametrize("name", registry.names("train.schedules"))
def test_warmup_is_a_line_that_ends_at_one(name):
    np.testing.assert_allclose(
        [factor(name, k) for k in range(WARMUP)], np.arange(1, WARMUP + 1) / (WARMUP + 1), rtol=1e-6
    )
    assert factor(name, WARMUP) == pytest.approx(1)


@pytest.mark.parametrize("name", registry.names("train.schedules"))
def test_no_warmup_and_runs_shorter_than_the_warmup_are_finite(name):
    for warmup, steps in ((0, 1), (0, 5), (10, 5), (10, 10)):
        values = [factor(name, step, warmup, steps) for step in range(steps + 1)]
        assert np.isfinite(values).all() and min(values) >= 0 and max(values) <= 1


@pytest.mark.parametrize("name", registry.names("train.schedules"))
def test_horizon_free_says_whether_the_factor_looks_at_steps(name):
    differs = any(factor(name, step, steps=110) != factor(name, step, steps=500) for step in range(0, 110, 7))
    assert differs == (name not in schedules.HORIZON_FREE)


def test_all_arguments_are_traced():
    traces = []

    @jax.jit
    def compiled(step, warmup, steps):
        traces.append(1)
        return registry.build("train.schedules", "cosine(final=0.1)")(step, warmup, steps)

    values = {
        float(compiled(*map(jnp.float32, point)))
        for point in ((50, 10, 110), (50, 20, 110), (50, 10, 200), (60, 10, 110))
    }
    assert len(values) == 4 and len(traces) == 1
