"""The gradient noise scale: unbiased where the truth is known, and what a real step reports."""

import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.train.monitors import gradient_noise
from gpt_jax.train.record.metrics import MetricsLog
from gpt_jax.train.record.noise_scale import noise_scale
from tests.train import tiny


def test_both_parts_are_unbiased_whatever_the_micro_batches_hold():
    random, size, tokens_A = np.random.default_rng(0), 5, np.array([3, 10, 7, 20])
    truth, deviation = np.full(size, 0.4), 0.7
    tokens, found = tokens_A.sum(), []
    for _ in range(4000):
        token_grads = [truth + deviation * random.standard_normal((n, size)) for n in tokens_A]
        sums = [grads.sum(0) / tokens for grads in token_grads]
        squares = jnp.array([(part**2).sum() for part in sums])
        found.append(
            gradient_noise.estimate(
                squares, jnp.array(tokens_A), jnp.float32((sum(sums) ** 2).sum()), jnp.float32(tokens)
            )
        )
    signal, trace = (np.mean([float(one[f"noise_{name}"]) for one in found]) for name in ("signal", "trace"))
    assert signal == pytest.approx((truth**2).sum(), rel=0.03)
    assert trace == pytest.approx(size * deviation**2, rel=0.03)


def test_a_step_reports_what_its_micro_batches_say():
    batch = tiny.batches(1, rows=8)[0]
    state, step = tiny.start(tiny.config(train__batch=8, train__accumulate=4))
    _, metrics = step(state, batch)
    lengths = []
    for i in range(4):
        rows = {name: np.concatenate([value[i::4]] * 4) for name, value in batch.items()}
        state, step = tiny.start(tiny.config(train__batch=8))
        _, alone = step(state, rows)
        lengths.append(float(alone["grad_norm"]) ** 2)
    share_A = np.array([batch["weights"][i::4].sum() for i in range(4)]) / batch["weights"].sum()
    tokens = batch["weights"].sum()
    whole = float(metrics["grad_norm"]) ** 2
    trace = ((share_A * lengths).sum() - whole) / (4 / tokens - 1 / tokens)
    assert float(metrics["noise_trace"]) == pytest.approx(trace, rel=1e-3)
    assert float(metrics["noise_signal"]) == pytest.approx(whole - trace / tokens, rel=1e-3)


def test_the_scale_of_a_run_is_a_ratio_of_means(tmp_path):
    log = MetricsLog(tmp_path, -1)
    for step in range(1, 9):
        values = {"train/noise_trace": 10.0 * step, "train/noise_signal": 1.0 if step > 4 else -1.0}
        log.write(step, {"tokens": step, **values})
    log.close()
    steps, scale = noise_scale(tmp_path, window=4)
    assert steps.tolist() == [4, 8] and np.isnan(scale[0]) and scale[1] == pytest.approx(65.0)
    assert len(noise_scale(tmp_path, window=9)[0]) == 0
