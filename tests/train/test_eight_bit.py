"""Moments in eight bits: the code book and the rounding against NumPy, whole updates, size, layout and sharding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import rules
from gpt_jax.model import gpt
from gpt_jax.train import optim
from gpt_jax.train.optimizers import eight_bit
from tests.mesh.sizes import mesh_config

WIDTH, MLP = 96, 192


def book(signed):
    """The values of section 2.2 of Dettmers et al. 2022, as their library lists them (create_dynamic_map)."""
    values = [0.0, 1.0]
    for i in range(7):
        edges = np.linspace(0.1, 1, 2 ** (i if signed else i + 1) + 1)
        middle = 10.0 ** (i - 6) * (edges[:-1] + edges[1:]) / 2
        values += [*middle, *(-middle if signed else [])]
    return np.array(sorted(values))


def nearest(x, signed, block):
    """The value that x comes back as: of its block's, the nearest; float64."""
    found = np.empty_like(x)
    for first in range(0, x.shape[-1], block):
        part = x[..., first : first + block]
        scale = np.abs(part).max(-1, keepdims=True)
        ratio = part / np.where(scale > 0, scale, 1)
        values = book(signed)
        distance = np.abs(ratio[..., None] - values)
        if not signed:
            distance[..., 0] = np.where(ratio > 0, np.inf, distance[..., 0])
        found[..., first : first + block] = values[distance.argmin(-1)] * scale
    return found


def draw(signed, *shape, seed=0):
    """Numbers over ten decades, and zeros."""
    rng = np.random.default_rng(seed)
    x = 10.0 ** rng.uniform(-10, 0, shape) * (rng.choice([-1, 1], shape) if signed else 1)
    return np.where(rng.random(shape) < 0.05, 0, x).astype(np.float32)


both = pytest.mark.parametrize("signed", [True, False])


@both
def test_the_code_book_is_the_papers(signed):
    assert len(eight_bit.code_book(signed)) == 256
    np.testing.assert_allclose(eight_bit.code_book(signed), book(signed), rtol=1e-6)


@both
def test_every_code_stands_for_its_value_and_is_found_again(signed):
    codes = np.arange(256, dtype=np.uint8)
    values = eight_bit.decode(codes[:, None], np.ones((256, 1), np.float32), signed)
    np.testing.assert_allclose(values[:, 0], book(signed), rtol=1e-6)
    beside_one = np.stack([book(signed), np.ones(256)], axis=1).astype(np.float32)
    again, scales = eight_bit.encode(beside_one, signed)
    np.testing.assert_array_equal(again[:, 0], codes)
    assert np.all(again[:, 1] == 255) and np.all(scales == 1)


@both
@pytest.mark.parametrize("size", [64, 96, 100, 257, 768, 1024])
def test_numbers_come_back_as_the_nearest_value_of_their_block(signed, size):
    x = draw(signed, 3, 40, size)
    codes, scales = jax.jit(eight_bit.encode, static_argnums=1)(x, signed)
    block = eight_bit.block_of(size)
    assert codes.shape == x.shape and codes.dtype == np.uint8 and scales.shape == (3, 40, -(-size // block))
    found = np.asarray(eight_bit.decode(codes, scales, signed), np.float64)
    wanted = nearest(np.asarray(x, np.float64), signed, block)
    # Halfway between two values float32 may choose either: the error is the same, and so it is compared.
    np.testing.assert_allclose(np.abs(found - x), np.abs(wanted - x), rtol=1e-5, atol=2e-7 * np.abs(x).max())
    assert np.mean(np.isclose(found, wanted, rtol=1e-5, atol=0)) > 0.999


@both
def test_the_error_is_at_most_half_of_the_widest_step_and_of_each_decades(signed):
    x = draw(signed, 2000, 32)  # a block a row
    ratio = np.abs(x) / np.abs(x).max(-1, keepdims=True)
    found = np.asarray(eight_bit.decode(*eight_bit.encode(x, signed), signed)) / np.abs(x).max(-1, keepdims=True)
    error = np.abs(np.abs(found) - ratio)
    for k in range(7):
        # Within a decade half a step; next to its ends, half the way to the nearest value of the next one.
        there = (ratio > 10.0 ** (k - 7)) & (ratio <= 10.0 ** (k - 6))
        assert there.any()
        assert error[there].max() <= 10.0 ** (k - 6) * 0.45 / 2 ** (k + (not signed)) * 1.001
    assert error[ratio <= 1e-7].max() <= 5.5e-7
    assert np.all(found[x == 0] == 0) and np.all(np.sign(found) * np.sign(x) >= 0)


def test_what_is_positive_without_a_sign_stays_so():
    x = np.full((1, 64), 1e-20, np.float32)
    x[0, 0] = 1
    assert np.all(np.asarray(eight_bit.decode(*eight_bit.encode(x, False), False)) > 0)


@pytest.mark.parametrize(
    "size, block", [(768, 96), (3072, 192), (4096, 256), (1024, 128), (64, 64), (50304, 131), (257, 256), (33, 33)]
)
def test_blocks_divide_an_axis_among_devices_where_they_can(size, block):
    assert eight_bit.block_of(size) == block


def config(optimizer, scanned=False, **changes):
    c = base.get_config()
    c.model.update(layers=2, width=WIDTH, heads=2, mlp_width=MLP, context=16, vocab=64, scan=scanned, tied=False)
    c.optim.update(optimizer=optimizer, schedule="constant", warmup=0, clip=0.0, weight_decay=0.0, lr=1e-2, **changes)
    return Config.from_dict(c.to_dict())


def shapes(c):
    return jax.eval_shape(lambda: gpt.init(c.model, jax.random.key(0)))


def gradient(params, seed):
    keys = iter(jax.random.split(jax.random.key(seed), len(jax.tree.leaves(params))))
    return jax.tree.map(lambda p: 0.1 * jax.random.normal(next(keys), p.shape) ** 3, params)


def steps(optimizer, count=4):
    c = config(optimizer)
    params = gpt.init(c.model, jax.random.key(0))
    tx = optim.build(c, params, False)
    update, state, found = jax.jit(tx.update), tx.init(params), []
    for step in range(count):
        updates, state, _ = update(gradient(params, step), state, params, jnp.int32(step), optim.hyper_of(c))
        params = optim.added(updates, params)
        found.append(updates)
    return params, state, found


def test_updates_are_adams_with_moments_that_were_rounded_in_between():
    _, _, found = steps("adamw8bit(b1=0.8, b2=0.9, eps=1e-6)")
    c = config("adamw8bit")
    params = gpt.init(c.model, jax.random.key(0))
    m = v = np.zeros((WIDTH, MLP))
    block = eight_bit.block_of(MLP)
    for t, updates in enumerate(found, 1):
        g = np.asarray(gradient(params, t - 1)["blocks"]["1"]["mlp"]["up"]["w"], np.float64)
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        wanted = -1e-2 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-6)
        got = np.asarray(updates["blocks"]["1"]["mlp"]["up"]["w"])
        # A number halfway between two codes may become either; all but a few in ten thousand are the same.
        assert np.mean(np.isclose(got, wanted, rtol=1e-4, atol=1e-7)) > 0.999, t
        m, v = nearest(m, True, block), nearest(v, False, block)


def test_small_arrays_and_vectors_are_adams():
    ours, theirs = steps("adamw8bit")[0], steps("adamw")[0]
    for path in (("norm", "scale"), ("blocks", "0", "mlp", "up", "bias"), ("embed", "position", "w")):
        a, b = ours, theirs
        for key in path:
            a, b = a[key], b[key]
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # one program rounds otherwise than the other


def size(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def test_the_state_is_about_a_quarter():
    values = base.get_config()
    values.model.update(vocab=50257)
    c = Config.from_dict(values)
    params = shapes(c)
    whole, coded = (
        size(jax.eval_shape(optim.build(dataclasses.replace(c, optim=o), params, False).init, params))
        for o in (dataclasses.replace(c.optim, optimizer=name) for name in ("adamw", "adamw8bit"))
    )
    assert whole == pytest.approx(8 * 124.4e6, rel=0.01)
    assert coded / whole == pytest.approx(0.25, abs=0.02)


def _own(split: dict) -> dict:
    """Without axes that a dimension has because another does not divide over them."""
    return {i: axes if isinstance(axes, str) else axes[0] for i, axes in split.items() if axes}


@pytest.mark.parametrize("sizes", [{"fsdp": 8}, {"tensor": 2, "fsdp": 2, "data": 2}, {"pipeline": 2, "fsdp": 4}])
def test_codes_and_scales_are_split_as_their_parameter_is(sizes):
    values = base.get_config()
    values.model.update(layers=4, width=256, heads=8, context=32, vocab=128, scan=True, tied=False)
    values.optim.optimizer = "adamw8bit"
    c = Config.from_dict(values)
    params = shapes(c)
    state = jax.eval_shape(optim.build(c, params, True).init, params)
    mesh = meshes.make(mesh_config(**sizes))
    of_params = {row.path: row for row in rules.describe(params, mesh, "default", True)}
    coded = 0
    for row in rules.describe(state, mesh, "default", True):
        twin = next((r for path, r in of_params.items() if row.path.endswith("/" + path)), None)
        if twin is None:
            continue
        split, wanted = (dict(enumerate(r.spec)) for r in (row, twin))
        if row.path.split("/")[1] == "scales":
            last = len(row.shape) - 1
            assert len(row.shape) == len(twin.shape) and row.shape[:-1] == twin.shape[:-1]
            wanted = wanted if row.shape[-1] % 8 == 0 else {i: axis for i, axis in wanted.items() if i != last}
            coded += 1
        assert _own(split) == _own(wanted), row
    assert coded == 2 * 9  # of q, k, v, out, up, down, both tables of the embedding, and the readout
