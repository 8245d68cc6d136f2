"""The stream's states, the lens, patches, and spectra."""

import jax
import numpy as np
import pytest

from gpt_jax.errors import UserError
from gpt_jax.interpret import residual_stream, spectra
from gpt_jax.interpret.model import merged
from tests.model.variants import config, parameters

TEXT, OTHER = np.array([[1, 2, 3, 4, 5, 6]]), np.array([[1, 2, 30, 4, 5, 6]])
BLOCKS = ["pre", "post", "sandwich", "parallel"]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_lens_ends_in_the_prediction(block):
    c = config(block=block)
    params = parameters(c)
    logs_LBTV = residual_stream.logit_lens(c, params, TEXT)
    wanted_BTV = jax.nn.log_softmax(merged(c, params)(TEXT))
    assert len(logs_LBTV) == c.layers + 1
    np.testing.assert_allclose(logs_LBTV[-1], wanted_BTV, atol=1e-5)
    losses_BT = residual_stream.token_losses(c, params, TEXT[:, :-1], TEXT[:, 1:])
    np.testing.assert_allclose(losses_BT[0], [-wanted_BTV[0, t, TEXT[0, t + 1]] for t in range(5)], atol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_patch_carries_over_what_its_place_holds(block):
    c = config(block=block)
    params = parameters(c)
    model = merged(c, params)
    donor_LBTD = residual_stream.streams(c, params, OTHER)
    same = residual_stream.patched(c, params, TEXT, residual_stream.streams(c, params, TEXT), 1, 2)
    np.testing.assert_allclose(same, model(TEXT), atol=1e-5)
    # Where the texts differ, before any layer: all of the difference.
    np.testing.assert_allclose(residual_stream.patched(c, params, TEXT, donor_LBTD, 0, 2), model(OTHER), atol=1e-5)
    last = residual_stream.patched(c, params, TEXT, donor_LBTD, c.layers, 5)
    np.testing.assert_allclose(last[0, 5], model(OTHER)[0, 5], atol=1e-5)
    np.testing.assert_allclose(last[0, :5], model(TEXT)[0, :5], atol=1e-5)


def test_patching_tells_where_the_difference_is():
    c = config()
    found_LT = np.asarray(residual_stream.patching(c, parameters(c), TEXT, OTHER, answer=7, rival=8))
    assert found_LT.shape == (3, 6)
    np.testing.assert_allclose(found_LT[0], [0, 0, 1, 0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(found_LT[-1], [0, 0, 0, 0, 0, 1], atol=1e-3)


@pytest.mark.parametrize(
    "donor, answer, match",
    [
        (OTHER[:, :5], 7, "cannot be patched"),
        ("a text", 7, "cannot be patched"),
        (OTHER, 8, "answer = 8 and rival = 8"),
        (OTHER, 99, "answer = 99"),
    ],
)
def test_texts_that_cannot_be_patched_are_refused(donor, answer, match):
    with pytest.raises(UserError, match=match):
        residual_stream.patching(config(), {}, TEXT, donor, answer, rival=8)


def test_effective_rank_counts_directions():
    assert spectra.effective_rank(np.ones(7)) == pytest.approx(7)
    assert spectra.effective_rank(np.array([3.0, 0, 0])) == pytest.approx(1)
    params = {"a": {"w": np.eye(5)}, "b": np.outer(np.arange(1, 4), np.ones(4)), "c": np.ones(9)}
    found = spectra.weight_spectra(params)
    assert set(found) == {"a/w", "b"} and spectra.effective_rank(found["b"]) == pytest.approx(1)
    x_LBTD = np.random.default_rng(0).standard_normal((1, 50, 400, 3)) * [3, 2, 0]
    np.testing.assert_allclose(spectra.activation_spectra(x_LBTD)[0], [3, 2, 0], rtol=0.03, atol=1e-6)
