"""The time and memory of a step by closed forms: against sums by hand, and as they have to change with the layout."""

from dataclasses import replace

import pytest

from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.mesh.context_strategy.gather import gather
from gpt_jax.mesh.context_strategy.ring import ring
from gpt_jax.mesh.context_strategy.ulysses import ulysses
from gpt_jax.mesh.planning.chips import CHIPS, Chip
from gpt_jax.mesh.planning.roofline import Layout, Shape, estimate, memory, sent_bytes
from gpt_jax.model import flops

GPT2 = {"layers": 12, "width": 768, "heads": 12, "vocab": 50304, "context": 1024}
IDEAL = Chip("ideal", 80 * 10**9, "gpu", 1e15, bandwidth=1e12, near=8, fast=1e11, slow=1e10)


def shape_of(**model) -> Shape:
    values = base.get_config()
    values.model.update(GPT2 | model)
    return Shape.of(Config.from_dict(values.to_dict()).model)


def test_a_shape_counts_what_the_model_counts():
    for model in ({}, {"mlp": "swiglu", "tied": False}, {"mlp": "moe(experts=8, top_k=2)"}):
        values = base.get_config()
        values.model.update(GPT2 | model)
        config = Config.from_dict(values.to_dict()).model
        convention = flops.flops_per_token(config, config.context, "nanogpt")
        assert Shape.of(config).model_flops == pytest.approx(convention, rel=1e-6)
        total = flops.parameters(config).total
        assert Shape.of(config).stored_in_all == pytest.approx(total, rel=0.01)  # without positions, norms and biases


def test_the_time_of_one_device_is_that_of_its_products_and_what_it_moves():
    shape = shape_of()
    found = estimate(shape, Layout(batch=8), IDEAL)
    tokens, weights = 8 * 1024, 12 * 12 * 768**2
    assert found.products == pytest.approx(6 * tokens * (weights + 50304 * 768) / 1e15)
    assert found.attention == pytest.approx(3.5 * tokens * 12 * 2 * 1024 * 768 / 0.6e15)
    moved = tokens * (12 * 3 * 2 * (10 * 768 + 2 * 3072) + 16 * 50304) + 30 * (weights + 50304 * 768)
    assert found.memory == pytest.approx(moved / 1e12)
    assert found.sent == {} and found.waits == 0
    assert found.seconds == found.products + found.attention + found.memory
    assert found.utilisation(IDEAL, 1) == pytest.approx(found.model_flops / found.seconds / 1e15)


def test_narrow_models_multiply_more_slowly():
    narrow = replace(IDEAL, products=0.8, half_width=768.0)
    assert estimate(shape_of(), Layout(batch=8), narrow).products == pytest.approx(
        estimate(shape_of(), Layout(batch=8), IDEAL).products / 0.4
    )


def test_devices_beyond_a_node_share_its_way_out():
    shape, weights = shape_of(), 12 * 12 * 768**2 + 50304 * 768
    for devices, rate in ((8, 1e11), (16, 8e10)):
        found = estimate(shape, Layout({"data": devices}, devices), IDEAL)
        assert found.sent["data"] == pytest.approx(2 * 4 * weights * (devices - 1) / devices / rate)
    beside = estimate(shape, Layout({"tensor": 4, "data": 4}, 4), IDEAL)
    assert beside.sent["data"] == pytest.approx(2 * 4 * weights / 4 * 3 / 4 / 2e10)


@pytest.mark.parametrize("axis", ["data", "fsdp", "tensor", "context", "expert", "pipeline"])
def test_one_device_along_an_axis_sends_nothing(axis):
    assert sent_bytes(shape_of(), Layout({"data": 1}, 8))[axis] == 0
    assert sent_bytes(shape_of(), Layout({axis: 4}, 8, microbatches=8))[axis] > 0


@pytest.mark.parametrize("strategy, of_queries, of_keys", [(ring(), 0, 3 * 8), (gather(), 0, 3 * 8), (ulysses(), 6, 6)])
def test_parts_of_texts_send_what_their_strategy_says(strategy, of_queries, of_keys):
    """Bytes of a number of queries and of keys, forward and backward, over four parts; ring's gradients are in float32."""
    of_keys += 3 * 8 if strategy.name == "ring" else 0
    shape, tokens = shape_of(kv_heads=4), 8 * 1024 / 4
    sent = sent_bytes(shape, Layout({"context": 4}, 8, strategy=strategy, gradients=0))
    numbers = [tokens * heads * 64 for heads in (12, 4)]
    assert sent["context"] == pytest.approx(12 * (of_queries * numbers[0] + of_keys * numbers[1]))


@pytest.mark.parametrize("more, room", [("", 8 * 1), (", capacity=1.25", 1.25 * 2)])
def test_experts_exchange_what_their_buffers_hold(more, room):
    """Of every token: dropless, all of a device's experts at each of eight; else the capacity."""
    shape, tokens = shape_of(mlp=f"moe(experts=8, top_k=2{more})"), 8 * 1024 / 8
    sent = sent_bytes(shape, Layout({"expert": 8}, 8, gradients=0))
    assert sent["expert"] == pytest.approx(12 * 4 * room * tokens * 768 * 2 * 7 / 8)


def test_experts_alone_are_split_along_expert():
    shape = shape_of(mlp="moe(experts=8, top_k=2)")
    experts = 12 * 8 * 3 * 768 * 3072
    dense = shape.stored_in_all - experts
    for layout, own in (
        (Layout({"expert": 8}, 8), dense + experts / 8),
        (Layout({"fsdp": 8}, 8), (dense + experts) / 8),
    ):
        assert memory(shape, layout, 4) - memory(shape, layout, 3) == pytest.approx(4 * own)
    sent = sent_bytes(shape, Layout({"expert": 8, "data": 4}, 32))
    exchanged = sent_bytes(shape, Layout({"expert": 8, "data": 4}, 32, gradients=0))["expert"]
    assert sent["expert"] - exchanged == pytest.approx(2 * 4 * dense * 7 / 8)
    assert sent["data"] == pytest.approx(2 * 4 * (dense + experts) / 8 * 3 / 4)


def test_stages_wait_as_long_as_their_schedule_says():
    shape = shape_of()
    found = estimate(shape, Layout({"pipeline": 4}, 8, microbatches=8), IDEAL)
    optimizer = 30 * shape.stored_in_all / 4 / 1e12  # which waits for nobody
    assert found.waits / (found.seconds - optimizer) == pytest.approx(3 / 11)
    rounds = estimate(shape, Layout({"pipeline": 4}, 8, rounds=3, microbatches=8), IDEAL)
    assert rounds.waits < 0.5 * found.waits


def test_memory_falls_with_what_lowers_it():
    shape, plain = shape_of(), Layout(batch=32)
    whole = memory(shape, plain)
    assert whole > 16 * shape.stored_in_all
    for layout in (
        replace(plain, remat="full"),
        replace(plain, accumulate=4),
        Layout({"fsdp": 4}, 32),
        Layout({"tensor": 4}, 32),
        Layout({"pipeline": 4}, 32, microbatches=8),
    ):
        assert memory(shape, layout) < 0.75 * whole


def test_chips_are_known_well_enough_to_be_timed():
    assert all(chip.known and chip.fast >= chip.slow > 0 and 0 < chip.products <= 1 for chip in CHIPS.values())
