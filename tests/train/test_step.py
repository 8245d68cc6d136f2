"""The compiled step: accumulation, layouts, optimizers, dropout, z-loss and the moving average change what they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax import registry
from gpt_jax.data.open import open_data
from gpt_jax.model import gpt
from gpt_jax.train.step import read_params
from tests import xla
from tests.train import tiny

STEPS = 4


def trained(c, batches) -> tuple[list[float], dict]:
    """The loss of every step, and the last state."""
    (state, step), losses = tiny.start(c), []
    for batch in batches:
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert int(state["step"]) == len(batches) and int(state["skipped"]) == 0
    return losses, state


@pytest.mark.every(3)
@pytest.mark.parametrize("optimizer", registry.names("train.optimizers"))
def test_scanned_and_unrolled_layers_train_alike(optimizer):
    batches = tiny.batches(1) * STEPS
    changes = dict(model__layers=2, optim__optimizer=optimizer, optim__lr=1e-2, optim__ema=0.9, train__z_loss=1e-3)
    unrolled, _ = trained(tiny.config(**changes), batches)
    scanned, _ = trained(tiny.config(model__scan=True, **changes), batches)
    np.testing.assert_allclose(scanned, unrolled, rtol=1e-5)
    assert unrolled[-1] < unrolled[0] - 1e-3


def test_accumulation_weighs_by_tokens_of_packed_documents(tmp_path):
    """Micro-batches of documents hold unequal numbers of counted tokens."""
    text = tiny.write_text(tmp_path, documents=80)
    base = dict(data__source=f"text(path={str(text)!r})", data__cache=str(tmp_path / "cache"), data__pack="segments")
    base["model__vocab"] = 257  # bytes, and the token between documents
    source = open_data(tiny.config(**base)).train.batches(8, 0)
    batches = [source[k] for k in range(STEPS)]
    counted = np.array([batch["weights"].reshape(2, 4, -1).sum((0, 2)) for batch in batches])
    assert (counted.std(1) > 0).any() and max(batch["segments"].max() for batch in batches) > 1
    whole, _ = trained(tiny.config(train__batch=8, **base), batches)
    parts, _ = trained(tiny.config(train__batch=8, train__accumulate=4, **base), batches)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


def test_dropout_belongs_to_the_example_whatever_the_micro_batch():
    batches = tiny.batches(STEPS, rows=8)
    whole, _ = trained(tiny.config(train__batch=8, model__dropout=0.3), batches)
    parts, _ = trained(tiny.config(train__batch=8, model__dropout=0.3, train__accumulate=4), batches)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    other, _ = trained(tiny.config(train__batch=8, model__dropout=0.3, train__seed=1), batches)
    without, _ = trained(tiny.config(train__batch=8), batches)
    assert abs(whole[0] - without[0]) > 1e-4 and abs(whole[0] - other[0]) > 1e-4


def test_the_loss_is_the_mean_over_counted_tokens_and_z_loss_that_of_squared_log_z():
    c = tiny.config(train__z_loss=0.5)
    (state, step), (batch,) = tiny.start(c), tiny.batches(1)
    logits = np.asarray(nnx.merge(gpt.graphdef(c.model), state["params"])(batch["tokens"]), np.float64)
    logz = np.log(np.exp(logits).sum(-1))
    at_target = np.take_along_axis(logits, batch["targets"][..., None], -1)[..., 0]
    mean = lambda x: (x * batch["weights"]).sum() / batch["weights"].sum()
    _, metrics = step(state, batch)
    assert float(metrics["loss"]) == pytest.approx(mean(logz - at_target), rel=1e-5)
    assert float(metrics["z_loss"]) == pytest.approx(0.5 * mean(logz**2), rel=1e-5)


def test_the_moving_average_is_one():
    c = tiny.config(optim__ema=0.75, optim__lr=1e-2)
    state, step = tiny.start(c)
    seen = []
    for batch in tiny.batches(3):
        state, _ = step(state, batch)
        seen.append(jax.tree.map(np.array, state["params"]))
        weights = 0.75 ** np.arange(len(seen))[::-1]  # none for the initial parameters
        mean = jax.tree.map(lambda *leaves, w=weights: np.average(leaves, axis=0, weights=w), *seen)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), read_params(state), mean)


@xla.as_users
def test_watching_changes_no_bit():
    c, (batch,) = tiny.config(model__scan=True, model__layers=2), tiny.batches(1)
    state, step = tiny.start(c)
    before = jax.tree.map(np.array, state)
    plain, _ = step(state, batch)
    watched, metrics = step(jax.tree.map(jnp.array, before), batch, watched=True)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), plain, watched))
    moved = watched["params"]["embed"]["tokens"]["w"] - before["params"]["embed"]["tokens"]["w"]
    rms = float(np.sqrt(np.mean(np.square(moved))))
    assert float(metrics["watch/updates/embed/tokens/w"]) == pytest.approx(rms, rel=1e-3)
    assert metrics["watch/grads/blocks/0/attention/q/w"].shape == (2,)
