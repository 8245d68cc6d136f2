"""The search for settings that fit a chip."""

import dataclasses

import pytest

from gpt_jax import configs
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import pipeline
from gpt_jax.mesh.planning import chips
from gpt_jax.mesh.planning.fit import ROOM, layout_of, proposals, unfit

H100 = chips.CHIPS["h100"]


def gpt3(size: str) -> Config:
    return Config.from_dict(configs.load(f"gpt3:{size}").to_dict())


def small(**knobs) -> Config:
    values = base.get_config()
    values.model.update(layers=4, width=64, heads=4, vocab=256, context=64)
    values.train.update(batch=48)
    for name, value in knobs.items():
        section, _, knob = name.partition("__")
        values[section][knob] = value
    return Config.from_dict(values.to_dict())


def test_the_largest_gpt3_as_it_is_does_not_divide_over_512_devices():
    assert "no multiple of 512" in unfit(gpt3("175b"), 512, H100)


def test_what_does_not_fit_is_told_apart_from_what_does():
    assert unfit(small(), 8, H100) == ""
    config = gpt3("175b")
    reason = unfit(config, 64, H100)
    assert "needs about" in reason and "which has 80" in reason
    assert "does not match the number of devices" in unfit(small(mesh__data=3), 8, H100)


def test_proposals_fit_and_the_fastest_comes_first():
    config = gpt3("175b")
    found = proposals(config, 512, H100)
    assert all(one.memory <= ROOM * H100.memory for one in found)
    times = [one.estimate.seconds for one in found]
    assert times == sorted(times)
    settled = found[0].applied(config)
    assert settled.model.dtype == "bfloat16" and not unfit(settled, 512, H100)
    assert found[0].flags.count("--config.") == len(found[0].knobs) > 3


def test_a_step_of_pairs_has_two_texts_an_example():
    texts = small(train__batch=96)
    pairs, wanted = layout_of(small(), {"data": 8}, options=2), layout_of(texts, {"data": 8})
    assert dataclasses.replace(pairs, strategy=wanted.strategy) == wanted  # a strategy is equal to itself alone
    (first, *_), (second, *_) = proposals(small(), 8, H100, options=2), proposals(texts, 8, H100)
    assert first.estimate == second.estimate and first.memory == second.memory


def test_knobs_that_are_given_stay():
    values = gpt3("13b").to_dict()
    values["mesh"].update(tensor=2, fsdp=4)
    config = Config.from_dict(values)
    found = proposals(config, 64, H100, ["mesh.tensor", "mesh.fsdp", "model.dtype"])
    assert found
    for one in found:
        settled = one.applied(config)
        assert (settled.mesh.tensor, settled.mesh.fsdp, settled.model.dtype) == (2, 4, "float32")


@pytest.mark.slow
def test_every_proposal_can_be_made():
    for one in proposals(small(model__mlp="moe(experts=4)"), 8, H100):
        assert unfit(one.applied(small(model__mlp="moe(experts=4)")), 8, H100) == ""


def test_proposed_pipelines_can_go_their_rounds():
    """Of 36 layers, two rounds of two stages and no more."""
    config = small(model__layers=36, mesh__rounds=2, mesh__data=1, train__batch=64)
    found = [one.applied(config) for one in proposals(config, 16, H100)]
    assert {one.mesh.pipeline for one in found} == {1, 2}
    for one in found:
        pipeline.check(meshes.abstract(one.mesh, 16), one)


def test_where_nothing_fits_it_is_said_how_far_off_that_is():
    with pytest.raises(UserError, match=r"no mesh of 8 fits h100; the least that it needs is \d+ GB") as caught:
        proposals(gpt3("175b"), 8, H100)
    assert "more devices" in caught.value.fix
