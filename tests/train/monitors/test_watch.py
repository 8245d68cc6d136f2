"""Root mean squares against NumPy, under the same names whether layers are scanned or not."""

import jax
import numpy as np
import pytest

from gpt_jax.model import layout
from gpt_jax.train.monitors import watch

LAYERS = 4


def unrolled() -> dict:
    draw = np.random.default_rng(0).standard_normal
    block = lambda i: {"attention": {"q": {"w": (i + 1) * draw((3, 2, 4)).astype(np.float32)}}, "scale": draw(3)}
    return {
        "embed": {"tokens": {"w": draw((5, 3)).astype(np.float32)}},
        "blocks": {str(i): block(i) for i in range(LAYERS)},
        "norm": {"scale": draw(3).astype(np.float32)},
    }


def expected(tree: dict) -> dict:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    name = lambda path: "watch/grads/" + "/".join(key.key for key in path)
    return {name(path): np.sqrt(np.mean(np.square(leaf.astype(np.float64)))) for path, leaf in leaves}


@pytest.mark.parametrize("period", [0, 1, 2])
def test_one_number_a_tensor_and_layer(period):
    """Period 0 stands for the unrolled layout."""
    tree = unrolled()
    live = layout.stack(tree, period) if period else tree
    values = jax.jit(lambda t: watch.rms(t, scanned=bool(period)))(live)
    found, wanted = watch.named("grads", values, max(period, 1)), expected(tree)
    assert found.keys() == wanted.keys() and f"watch/grads/blocks/{LAYERS - 1}/attention/q/w" in found
    assert all(type(value) is float for value in found.values())
    np.testing.assert_allclose([found[k] for k in wanted], list(wanted.values()), rtol=1e-6)


def test_layers_keep_their_names_where_others_have_no_gradient():
    stacked = layout.stack(unrolled(), 2)
    del stacked["blocks"]["0"]
    found, wanted = watch.named("grads", watch.rms(stacked, scanned=True), 2), expected(unrolled())
    assert {name for name in found if "blocks" in name} == {n for n in wanted if "blocks/1" in n or "blocks/3" in n}
    np.testing.assert_allclose([found[name] for name in found], [wanted[name] for name in found], rtol=1e-6)


def test_low_precision_is_squared_in_float32():
    value = watch.rms({"w": jax.numpy.full(1000, 300.0, jax.numpy.float16)}, scanned=False)["w"]
    assert value.dtype == np.float32 and float(value) == pytest.approx(300)


def test_no_tensor_is_hidden_by_another():
    tree = {"norm": {"scale": np.full(3, np.nan, np.float32), "bias": np.zeros(3, np.float32)}}
    found = watch.named("params", watch.rms(tree, scanned=True), 1)
    assert np.isnan(found["watch/params/norm/scale"]) and found["watch/params/norm/bias"] == 0
