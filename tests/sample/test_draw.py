"""Draws against the exact distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.sample.engine import draw, writing
from gpt_jax.sample.engine.program import Program
from gpt_jax.sample.platform import ACCELERATOR, CPU
from gpt_jax.sample.processors import Step
from tests.sample.every_processor import SAMPLERS, draws, exact, p_value, sampler

COUNT = 6000  # python -m tests.sample.every_processor draws 100,000
LEVEL = 0.001 / len(SAMPLERS)


@pytest.mark.parametrize("calls", SAMPLERS, ids=" ".join)
def test_draws_follow_the_exact_distribution(calls):
    tokens = draws(sampler(calls), COUNT, seed=11)
    assert p_value(tokens, exact(sampler(calls))) > LEVEL
    assert p_value(tokens, exact(sampler(()))) < LEVEL, "this test cannot fail"


def test_draws_from_several_blocks_follow_the_softmax():
    """A vocabulary of more than two blocks of the draw; and a temperature that is a little off is noticed."""
    plain = sampler((), vocab=600)
    keys_B = jax.random.split(jax.random.key(1), 40_000)
    drawn = jax.jit(lambda keys: jax.lax.map(lambda key: draw.draw(plain.scores_V[None], key[None])[0], keys))
    tokens = np.asarray(drawn(keys_B))
    assert p_value(tokens, exact(plain)) > 0.001
    assert p_value(tokens, exact(sampler(("temperature(t=1.1)",), vocab=600))) < 1e-6


def test_a_draw_never_takes_what_has_no_weight():
    """Numbers at both ends of [0, 1), weights of 0 at both ends of a block, and sums that round."""
    weights = np.full(257, 0.1, np.float32)
    weights[[0, 1, 255, 256]] = 0
    for uniform in (0.0, 1e-7, 0.5, np.nextafter(np.float32(1), np.float32(0))):
        index = int(draw._invert(jnp.asarray(weights), jnp.float32(uniform)))
        assert weights[index] > 0
    assert int(draw._invert(jnp.asarray(weights), jnp.float32(0))) == 2


def test_choose_mixes_greedy_and_drawn_rows():
    scores = np.tile(np.random.default_rng(0).standard_normal(50).astype(np.float32), (3, 1))
    scores[:, 7] = scores[:, 3] = scores.max() + 1  # among equals the first
    keys_B = jax.random.split(jax.random.key(0), 3)
    one_B = jnp.ones(3, jnp.int32)
    step = Step(jnp.zeros((3, 4), jnp.int32), one_B, one_B, 3 * one_B, jnp.full((3, 1), -1), keys_B)

    def chosen(program, greedy_B):
        state = {"knobs": [], "greedy_B": jnp.asarray(greedy_B)}
        return writing.chosen(program, state, jnp.asarray(scores), step)[1]

    expected = draw.draw(jnp.asarray(scores), keys_B).tolist()
    got = chosen(Program(None, CPU), [True, False, True])
    assert got.tolist() == [3, expected[1], 3] and got.dtype == jnp.int32
    assert chosen(Program(None, CPU), [True] * 3).tolist() == [3] * 3
    for some in (True, False):
        other = chosen(Program(None, ACCELERATOR, draws=some), [not some] * 3)
        assert other.tolist() == (expected if some else [3] * 3)
