"""Seeds of any size: small ones are themselves, and large ones are folded, wherever a seed is given."""

import jax
import numpy as np
import pytest

from gpt_jax.errors import UserError
from gpt_jax.limits import folded
from gpt_jax.mesh import mesh as meshes
from gpt_jax.sample.watermark import detect
from gpt_jax.train.step import hyper_scalars, make_program
from tests.train import tiny

LARGE = (2**31, 3_000_000_000, 2**32 - 1, 2**32 + 7, 2**62 + 3)


def test_small_seeds_are_themselves_and_no_part_of_a_large_one_is_lost():
    assert [folded(seed) for seed in (0, 5, 2**32 - 1)] == [0, 5, 2**32 - 1]
    assert len({int(folded(5 + 2**bit)) for bit in range(32, 64)}) == 32
    assert np.array_equal(jax.random.key_data(jax.random.key(folded(5))), jax.random.key_data(jax.random.key(5)))


def test_a_negative_seed_is_refused():
    for ask in (lambda: folded(-1), lambda: detect([1, 2, 3], seed=-1)):
        with pytest.raises(UserError, match="seed = -1 is out of range"):
            ask()


def test_a_run_takes_them():
    c = tiny.config(model__layers=1, model__width=8)
    program = make_program(c, meshes.make(c.mesh))
    weights = [program.init(seed)["params"]["embed"]["tokens"]["w"] for seed in LARGE]
    assert len({np.asarray(w).tobytes() for w in weights}) == len(LARGE)
    assert hyper_scalars(tiny.config(train__seed=LARGE[-1]))["seed"].dtype == np.uint32
