"""Non-finite numbers are found, wherever they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.train.monitors.finite import all_finite, first_bad


def tree(bad=0.0, place=("b", "w")):
    values = {
        "a": {"w": np.ones((3, 4), np.float32)},
        "b": {"w": np.ones(7, np.float32)},
        "count": np.ones((), np.int32),
    }
    values[place[0]][place[1]].flat[-1] = bad
    return jax.tree.map(jnp.asarray, values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [("a", "w"), ("b", "w")])
def test_one_bad_element_is_found_and_named(bad, place):
    assert not bool(jax.jit(all_finite)(tree(bad, place)))
    assert first_bad(tree(bad, place)) == "/".join(place)


def test_the_first_of_several_is_named():
    both = tree(np.nan)
    both["a"]["w"] = both["a"]["w"].at[0, 0].set(jnp.inf)
    assert first_bad(both) == "a/w"


def test_infinities_of_both_signs_do_not_cancel():
    assert not bool(all_finite({"x": jnp.array([jnp.inf, -jnp.inf])}))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_the_largest_numbers_are_finite(dtype):
    largest = {"x": jnp.full(64, jnp.finfo(dtype).max, dtype)}
    assert bool(all_finite(largest)) and first_bad(largest) is None


def test_empty_trees_and_integers_are_finite():
    assert bool(all_finite({})) and bool(all_finite({"i": jnp.arange(3)})) and first_bad({"i": jnp.arange(3)}) is None
