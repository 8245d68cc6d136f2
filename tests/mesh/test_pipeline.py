"""How a pipeline cuts a batch, how long its stages wait, and what it sends; its numbers are test_step_parity's."""

import functools

import jax
import jax.numpy as jnp
import pytest

from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.pipeline import AXIS, LayerSplit, Schedule, microbatches
from gpt_jax.mesh.planning.traffic import by_axes, collectives
from gpt_jax.model.where import Where
from tests.mesh.sizes import mesh_config

LAYERS, ROWS, LENGTH, WIDTH = 16, 16, 4, 32


@pytest.mark.parametrize(
    "stages, rounds, count, ticks, bubble", [(4, 1, 4, 7, 3 / 7), (4, 1, 8, 11, 3 / 11), (4, 2, 8, 19, 3 / 19)]
)
def test_a_stage_waits_as_its_closed_form_says(stages, rounds, count, ticks, bubble):
    schedule = Schedule(stages, rounds, count)
    assert schedule.ticks == ticks and schedule.bubble == pytest.approx(bubble)


@pytest.mark.parametrize(
    "asked, stages, rows, count", [(0, 4, 32, 8), (0, 4, 12, 12), (0, 4, 6, 6), (0, 8, 8, 8), (2, 4, 8, 2)]
)
def test_a_batch_is_cut_into_about_twice_as_many_pieces_as_there_are_stages(asked, stages, rows, count):
    assert microbatches(mesh_config(microbatches=asked), stages, rows) == count


def layers(x_BTD, where, stack):
    """Layers of the simplest kind, which report their number and the mean of what they were given."""

    def one(x_BTD, layer):
        w_DD, number = layer
        seen = {"number": number.astype(jnp.float32) * jnp.ones(()), "mean": x_BTD.mean()}
        return jnp.tanh(x_BTD @ w_DD) + where.segments_BT[..., None], seen

    x_BTD, report = jax.lax.scan(one, x_BTD, stack)
    return x_BTD, None, report


def given():
    draw = functools.partial(jax.random.normal, dtype=jnp.float32)
    one, two, three = jax.random.split(jax.random.key(0), 3)
    stack = draw(one, (LAYERS, WIDTH, WIDTH)) / WIDTH**0.5, jnp.arange(LAYERS)
    return draw(two, (ROWS, LENGTH, WIDTH)), draw(three, (ROWS, LENGTH)), stack


@pytest.mark.parametrize("rounds", [1, 2])
def test_each_row_keeps_what_belongs_to_it_and_each_layer_its_report(rounds):
    config = mesh_config(data=2, pipeline=4, rounds=rounds)
    mesh = meshes.make(config)
    x_BTD, segments_BT, stack = given()
    where = Where(segments_BT=segments_BT)
    with jax.set_mesh(mesh):
        y_BTD, cache, report = jax.jit(lambda *a: LayerSplit(mesh, config).run(layers, *a))(x_BTD, where, stack)
    wanted_BTD, _, wanted = layers(x_BTD, where, stack)
    assert cache is None and jnp.allclose(y_BTD, wanted_BTD, atol=1e-5)
    assert jnp.array_equal(report["number"], jnp.arange(LAYERS)) and jnp.allclose(
        report["mean"], wanted["mean"], atol=1e-6
    )


@pytest.mark.parametrize("stages", [4, 8])
def test_a_stage_sends_a_micro_batch_a_tick(stages):
    config = mesh_config(data=8 // stages, pipeline=stages)
    mesh = meshes.make(config)
    split, (x_BTD, segments_BT, stack) = LayerSplit(mesh, config), given()

    def passed(x_BTD, stack):
        return (split.run(layers, x_BTD, Where(segments_BT=segments_BT), (stack, jnp.arange(LAYERS)))[0] ** 2).sum()

    with jax.set_mesh(mesh):
        text = jax.jit(jax.grad(passed, argnums=(0, 1))).lower(x_BTD, stack[0]).compile().as_text()
    sent = by_axes(collectives(text, mesh.shape))[(AXIS,), "collective-permute"]
    rows = ROWS // (8 // stages)
    schedule = Schedule(stages, 1, microbatches(config, stages, rows))
    piece = 4 * rows // schedule.count * LENGTH * WIDTH
    assert sent == pytest.approx(2 * schedule.ticks * piece, rel=0.05)
