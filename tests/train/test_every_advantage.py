"""What holds of every advantage, whatever it compares a completion with."""

import dataclasses

import numpy as np
import pytest

from tests.train.test_advantages import EVERY, PROMPTS, SAMPLES, N, Scores, T, built, case, there

CLOSE = {"rtol": 1e-10, "atol": 1e-12}
OF_ROWS = ("reward_N", "real_N", "weights_NT", "penalty_NT", "value_NT")


def taken(scores: Scores, rows: np.ndarray, samples: int = SAMPLES) -> Scores:
    return dataclasses.replace(scores, samples=samples, **{name: getattr(scores, name)[rows] for name in OF_ROWS})


def laid(scores: Scores, before: int, after: int) -> Scores:
    """The same targets, with padding on both sides."""
    wider = {name: np.pad(getattr(scores, name), ((0, 0), (before, after))) for name in OF_ROWS if name.endswith("_NT")}
    return dataclasses.replace(scores, **wider)


def same(found, wanted_NT: np.ndarray, returns_NT: np.ndarray | None) -> None:
    np.testing.assert_allclose(found.advantage_NT, wanted_NT, **CLOSE)
    assert (found.returns_NT is None) == (returns_NT is None)
    if returns_NT is not None:
        np.testing.assert_allclose(found.returns_NT, returns_NT, **CLOSE)


@pytest.mark.parametrize("call", EVERY)
@pytest.mark.parametrize("seed", range(4))
def test_padding_and_the_order_of_rows_change_nothing(call, seed):
    scores = case(seed, left_out=True)
    found = built(call)(scores)
    assert np.abs(found.advantage_NT).max() > 0.1
    padded = built(call)(laid(scores, 2, 3))
    cut = [None if a is None else a[:, 2 : 2 + T] for a in (padded.advantage_NT, padded.returns_NT)]
    same(found, *cut)
    assert not np.delete(padded.advantage_NT, np.arange(2, 2 + T), axis=1).any()
    draw = np.random.default_rng(seed)
    within = [draw.permutation(SAMPLES) for _ in range(PROMPTS)]
    order = np.concatenate([prompt * SAMPLES + within[prompt] for prompt in draw.permutation(PROMPTS)])
    moved = built(call)(taken(scores, order))
    same(moved, found.advantage_NT[order], None if found.returns_NT is None else found.returns_NT[order])


@pytest.mark.parametrize("call", EVERY)
def test_nothing_is_estimated_where_nothing_was_written_or_rewarded(call):
    scores = case(5, left_out=True)
    found = built(call)(scores)
    assert (~scores.real_N).any() and not found.advantage_NT[~there(scores)].any()
    assert found.returns_NT is None or not found.returns_NT[~there(scores)].any()


@pytest.mark.parametrize("call", EVERY)
def test_a_row_without_a_reward_is_as_if_it_were_not_there(call):
    """Whatever stands in it. A prompt's other samples are compared with one another."""
    scores = case(6)
    rows = np.arange(0, N, SAMPLES)  # the first of each prompt
    real_N = np.ones(N, bool)
    real_N[rows] = False
    draw = np.random.default_rng(0)
    garbage = {name: getattr(scores, name).copy() for name in ("reward_N", "penalty_NT", "value_NT")}
    for array in garbage.values():
        array[rows] = draw.normal(size=array[rows].shape)
    found = built(call)(dataclasses.replace(scores, real_N=real_N, **garbage))
    fewer = built(call)(taken(scores, np.flatnonzero(real_N), SAMPLES - 1))
    np.testing.assert_allclose(found.advantage_NT[real_N], fewer.advantage_NT, **CLOSE)


@pytest.mark.parametrize("call", ["group", "group(eps=0.0)", "group(std=False)", "loo"])
def test_equal_rewards_say_nothing(call):
    """Though the mean of three tenths is none, in float64."""
    weights_NT = np.ones((N, T))
    scores = Scores(np.full(N, 0.1), np.ones(N, bool), weights_NT, np.zeros((N, T)), np.zeros((N, T)), 3)
    assert np.abs(built(call)(scores).advantage_NT).max() < 1e-15
    alone = dataclasses.replace(scores, real_N=np.arange(N) % 3 == 0, reward_N=np.arange(float(N)))
    assert not built(call)(alone).advantage_NT.any()


def test_leaving_one_out_is_the_mean_taken_off_and_stretched():
    for seed in range(20):
        scores = case(seed)
        loo, group = (built(call)(scores).advantage_NT for call in ("loo", "group(std=False)"))
        np.testing.assert_allclose(loo, group * SAMPLES / (SAMPLES - 1), **CLOSE)
