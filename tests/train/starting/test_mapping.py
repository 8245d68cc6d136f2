"""Parameters of one model become those of another: the same function, or a line that says what is not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax.errors import UserError
from gpt_jax.interop.reading import shapes
from gpt_jax.model import gpt, layout
from gpt_jax.train.starting import mapping
from gpt_jax.tree_paths import map_with_path, path_of
from tests.train import tiny

KEY = jax.random.key(3)
MODEL = tiny.config(
    model__layers=4, model__heads=4, model__kv_heads=2, model__context=8, model__vocab=12, model__bias=False
).model
TOKENS = np.array([[1, 5, 2, 2, 11, 0, 7, 3]], np.int32)


def changed(**knobs):
    return dataclasses.replace(MODEL, **knobs)


def random_arrays(model, key=KEY):
    """Parameters of which none has its initial value, as after training."""
    stacked = gpt.init(dataclasses.replace(model, scan=True), key)
    leaves = jax.tree_util.tree_leaves_with_path(stacked)
    draw = np.random.default_rng(0)
    return {
        path_of(keys): np.asarray(leaf) + 0.1 * draw.normal(size=leaf.shape).astype(np.float32) for keys, leaf in leaves
    }


def logits(model, arrays, tokens=TOKENS):
    tree = map_with_path(lambda path, _: jnp.asarray(arrays[path]), _stacked(model))
    params = layout.unstack(tree, len(model.attentions))
    return np.asarray(nnx.merge(gpt.graphdef(dataclasses.replace(model, scan=False)), params)(tokens))


def _stacked(model):
    return jax.eval_shape(lambda: gpt.init(dataclasses.replace(model, scan=True), jax.random.key(0)))


def mapped(old, new, **more):
    arrays = random_arrays(old)
    found = mapping.mapped(old, arrays, new, KEY, **more)
    assert {path: leaf.shape for path, leaf in found.arrays.items()} == shapes(new)
    assert all(leaf.dtype == np.float32 for leaf in found.arrays.values())
    return arrays, found


CYCLE = ("full", "sliding(window=8)")
# What keeps the function: (old, new), and the knobs that lines are about.
KEPT = {
    "identical": (MODEL, MODEL, set()),
    "another cycle of the same mechanism": (MODEL, changed(attention=CYCLE), {"attention"}),
    "a shorter cycle": (changed(attention=CYCLE), MODEL, {"attention"}),
    "of three and two": (changed(layers=6, attention=("full",) * 3), changed(layers=6, attention=CYCLE), {"attention"}),
    "a longer context": (MODEL, changed(context=13), {"context"}),
    "a shorter context": (changed(context=13), MODEL, {"context"}),
    "untied": (MODEL, changed(tied=False), {"tied"}),
    "biases": (MODEL, changed(bias=True), {"new parameters"}),
    "biases of the readout": (MODEL, changed(bias=("readout",)), {"new parameters"}),
    "heads repeated": (MODEL, changed(kv_heads=4), {"kv_heads"}),
    "a factor of the heads": (MODEL, changed(attention="full(head_scale=True)"), {"attention", "new parameters"}),
    "mixing": (MODEL, changed(attention="full(mixing=True)"), {"attention", "new parameters"}),
    "a skip": (MODEL, changed(block="pre(embed_skip=True)"), {"block", "new parameters"}),
    "no backend": (MODEL, changed(attend="reference", scan=True, remat="full", dropout=0.1), set()),
}


@pytest.mark.every(3)
@pytest.mark.parametrize("name", KEPT)
def test_the_same_function(name):
    old, new, knobs = KEPT[name]
    arrays, found = mapped(old, new)
    np.testing.assert_allclose(
        logits(dataclasses.replace(new, dropout=0.0), found.arrays), logits(old, arrays), atol=1e-6, rtol=1e-5
    )
    said = {note.split(":")[0].removeprefix("model.") for note in found.notes}
    assert {note.removesuffix(" begin where they change nothing") for note in said} == knobs


def test_identical_parameters_are_not_copied():
    arrays, found = mapped(MODEL, MODEL)
    assert all(found.arrays[path] is arrays[path] for path in arrays)


def test_new_positions_are_as_initialised():
    new = changed(context=13)
    _, found = mapped(MODEL, new)
    fresh = gpt.init(new, KEY)["embed"]["position"]["w"]
    np.testing.assert_allclose(found.arrays["embed/position/w"][8:], fresh[8:], rtol=1e-6)


def test_new_tokens_are_the_mean_with_noise():
    old, new = changed(tied=False, bias=("readout",)), changed(tied=False, bias=("readout",), vocab=15)
    arrays, found = mapped(old, new)
    np.testing.assert_allclose(
        logits(new, found.arrays)[..., :12], logits(old, arrays), atol=1e-6, rtol=1e-5, err_msg="old tokens"
    )
    rows = found.arrays["embed/tokens/w"]
    near = np.abs(rows[12:] - rows[:12].mean(0)).max(0)
    assert (near < 0.05 * rows[:12].std(0)).all() and (near > 0).all()
    assert len({tuple(row) for row in rows[12:]}) == 3
    columns = found.arrays["readout/w"]
    assert np.abs(columns[:, 12:] - columns[:, :12].mean(1)[:, None]).max() < 0.05 * columns.std()
    assert found.notes == ["model.vocab: 12 -> 15; 3 new rows are the mean of the others and a little noise"]
    other = mapping.mapped(old, arrays, new, jax.random.key(4)).arrays["embed/tokens/w"]
    assert (other[12:] != rows[12:]).any() and (other[:12] == rows[:12]).all()


def test_rows_beyond_the_tokenizer():
    arrays, found = mapped(MODEL, changed(vocab=10), ids=9)
    np.testing.assert_array_equal(found.arrays["embed/tokens/w"], arrays["embed/tokens/w"][:10])
    assert found.notes == ["model.vocab: 12 -> 10; unused rows go"]
    # Padding that now gets tokens begins anew, from what has been trained.
    _, found = mapped(MODEL, MODEL, ids=9, needed=11)
    rows = found.arrays["embed/tokens/w"]
    np.testing.assert_allclose(rows[9:11], np.tile(rows[:9].mean(0), (2, 1)), atol=0.05 * rows.std() * 3)
    np.testing.assert_array_equal(rows[11], arrays["embed/tokens/w"][11])
    assert found.notes == ["model.vocab: 12 -> 12; 2 new rows are the mean of the others and a little noise"]


def test_an_untied_readout_of_more_tokens():
    new = changed(tied=False, vocab=15)
    _, found = mapped(MODEL, new)
    np.testing.assert_array_equal(found.arrays["readout/w"], found.arrays["embed/tokens/w"].T)


def test_fewer_key_value_heads_are_means_of_neighbours():
    old, new = changed(kv_heads=4, bias=True), changed(kv_heads=2, bias=True)
    arrays, found = mapped(old, new)
    for path in ("blocks/0/attention/k/w", "blocks/0/attention/v/bias"):
        before, after = arrays[path], found.arrays[path]
        np.testing.assert_allclose(after[..., 0, :], (before[..., 0, :] + before[..., 1, :]) / 2, rtol=1e-6)
        np.testing.assert_allclose(after[..., 1, :], (before[..., 2, :] + before[..., 3, :]) / 2, rtol=1e-6)
    # Heads that were alike stay so: repeated and pooled again.
    again = mapping.mapped(new, found.arrays, old, KEY).arrays
    pooled = mapping.mapped(old, again, new, KEY).arrays
    for path, leaf in found.arrays.items():
        np.testing.assert_allclose(pooled[path], leaf, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "knobs, line",
    [
        ({"norm": "rmsnorm"}, "model.norm: layernorm -> rmsnorm"),
        ({"block": "post(deepnorm=True)", "norm": "layernorm"}, ""),
        ({"logit_softcap": 5.0}, "model.logit_softcap: 0.0 -> 5.0"),
        ({"attention": "retention"}, ""),
        ({"position": "rope"}, "model.position: learned -> rope; the old one's parameters are left out"),
        ({"position": "none"}, "model.position: learned -> none; the old one's parameters are left out"),
        ({"position": "t5(buckets=8)"}, "the old one's parameters are left out, its parameters begin anew"),
        (
            {"init": "mup(base_width=8)"},
            "model.init: gpt2 -> mup(base_width=8); its factors of scores and logits differ",
        ),
    ],
)
def test_what_changes_the_function_is_said(knobs, line):
    new = changed(**knobs)
    if not line:
        with pytest.raises(UserError):
            mapped(MODEL, new)
        return
    _, found = mapped(MODEL, new)
    assert len(found.notes) == 1 and line in found.notes[0]


TWELVE, PAIRED = {"heads": 12, "head_dim": 4}, {"attention": "differential"}
REFUSED = {
    "layers": ({}, {"layers": 6}, "model.layers is 4 in the model that training starts from, and 6 here", "layers"),
    "width": ({}, {"width": 32}, "model.width is 16", "width"),
    "head_dim": ({}, {"head_dim": 8}, "model.head_dim is 4", "head_dim"),
    "mlp_width": ({}, {"mlp_width": 8}, "model.mlp_width is 64", "mlp_width"),
    "tied": ({"tied": False}, {}, "has a readout of its own", "tied"),
    "biases lost": ({"bias": True}, {}, "biases that are not zero, and would be lost: blocks/*/attention/k/bias", "bias"),
    "fewer tokens": ({}, {"vocab": 11}, "was trained with 12 token ids", "vocab"),
    "heads": (TWELVE | {"kv_heads": 4}, TWELVE | {"kv_heads": 6}, "cannot become 6", "kv_heads"),
    "paired heads": (PAIRED, PAIRED | {"kv_heads": 4}, "differential", "kv_heads"),
    "another mlp": ({}, {"mlp": "swiglu"}, "no values to begin with: blocks/*/mlp/gate/w", "mlp"),
    "sandwich": ({}, {"block": "sandwich"}, "no values to begin with: blocks/*/norm1_out/scale", "block"),
    "a gate lost": ({"attention": "full(gate=True)"}, {}, "these would be lost: blocks/*/attention/gate/w", "attention"),
    "a sink": ({}, {"attention": "full(sink=True)"}, "no values to begin with: blocks/*/attention/sink", "attention"),
    "part of the layers": ({"attention": ("full", "full(gate=True)")}, {}, "lost: blocks/*/attention/gate/w", "attention"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_no_rule(name):
    before, after, what, knob = REFUSED[name]
    with pytest.raises(UserError) as caught:
        mapped(changed(**before), changed(**after))
    assert what in caught.value.what and f"config.model.{knob}" in caught.value.where
    assert caught.value.allowed or name == "another mlp"


def test_biases_that_are_zero_may_go():
    old = changed(bias=True)
    arrays = {path: leaf * (not path.endswith("bias")) for path, leaf in random_arrays(old).items()}
    found = mapping.mapped(old, arrays, MODEL, KEY)
    np.testing.assert_allclose(logits(MODEL, found.arrays), logits(old, arrays), atol=1e-6, rtol=1e-5)
