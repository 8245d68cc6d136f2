"""Batches are pure functions of (seed, k), take every window once an epoch and never mix documents."""

import numpy as np
import pytest

from gpt_jax.data.batches import CYCLE, Mixture, Split
from gpt_jax.data.corpus import TokenArray
from gpt_jax.data.open import open_data
from gpt_jax.data.windows import TokenWindows, document_begins, segments_of
from gpt_jax.errors import UserError


def numbers(size: int, context: int, starts=(0,), segments: bool = False) -> TokenWindows:
    """Windows over the ids 0, 1, 2, ...: a token tells where it stands."""
    array = TokenArray(np.arange(size, dtype=np.uint32), np.array(starts, np.int64))
    return TokenWindows("train", array, context, segments)


def split_of(*windows: TokenWindows, weights=None) -> Split:
    return Split(windows, Mixture(weights or [1.0] * len(windows)))


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_batch_depends_on_seed_and_number_alone():
    stream = split_of(numbers(1000, 7)).batches(4, seed=5)
    in_turn = [stream[k] for k in range(80)]  # more than two epochs
    for k in [79, 3, 41, 0, 40]:
        assert equal(split_of(numbers(1000, 7)).batches(4, seed=5)[k], in_turn[k])
    assert not equal(split_of(numbers(1000, 7)).batches(4, seed=6)[0], in_turn[0])


def test_the_order_itself_is_pinned():
    """These numbers change only together with batches.ORDER: a run must not be resumed in another order."""
    stream = split_of(numbers(1000, 7)).batches(6, seed=3)
    assert stream[0]["tokens"][:, 0].tolist() == PINNED[0]
    assert stream[10**9]["tokens"][:, 0].tolist() == PINNED[1]


PINNED = [[445, 830, 389, 207, 235, 620], [744, 835, 660, 128, 933, 919]]


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_rows_of_ranks_unite_to_the_global_batch(parts):
    stream = split_of(numbers(500, 9), numbers(300, 9), weights=[2, 1]).batches(12, seed=1)
    for k in (0, 7, 1000):
        rows = [stream.rows(k, r * 12 // parts, (r + 1) * 12 // parts) for r in range(parts)]
        assert equal({name: np.concatenate([part[name] for part in rows]) for name in rows[0]}, stream[k])


@pytest.mark.parametrize("size, context", [(1000, 7), (64, 8), (65, 8), (9, 8), (16, 8), (17, 8), (25, 8)])
def test_every_window_once_an_epoch(size, context):
    windows = numbers(size, context)
    stream = split_of(windows).batches(1, seed=11)
    shifts, orders = set(), set()
    for epoch in range(15):
        firsts = [int(stream[epoch * windows.count + i]["tokens"][0, 0]) for i in range(windows.count)]
        shift = min(firsts)
        assert sorted(firsts) == [shift + i * context for i in range(windows.count)]
        assert 0 <= shift <= windows.slack and shift + windows.count * context < size
        shifts.add(shift % context)
        orders.add(tuple(first - shift for first in firsts))
    assert len(orders) > 13 or windows.count < 5
    assert len(shifts) > min(context, windows.slack + 1) // 2


def test_targets_are_the_next_tokens():
    batch = split_of(numbers(1000, 7)).batches(4, seed=5)[3]
    assert np.array_equal(batch["targets"], batch["tokens"] + 1)
    assert batch["tokens"].dtype == batch["targets"].dtype == np.int32 and batch["weights"].dtype == np.float32
    assert batch["weights"].all() and batch["tokens"].shape == (4, 7)


def test_neighbouring_seeds_do_not_share_orders():
    windows = numbers(1001, 10)
    one, two = (split_of(windows).batches(windows.count, seed) for seed in (0, 1))
    assert not np.array_equal(np.argsort(one[1]["tokens"][:, 0]), np.argsort(two[0]["tokens"][:, 0]))


@pytest.mark.parametrize("size, batch", [(100, 4), (81, 5), (9, 3)])
def test_fixed_batches_are_the_whole_split_in_order(size, batch):
    fixed = split_of(numbers(size, 8)).fixed(batch, 0)
    whole = (size - 1) // 8
    assert len(fixed) == -(-whole // batch)
    counted = np.concatenate([fixed[k]["targets"][fixed[k]["weights"] > 0] for k in range(len(fixed))])
    assert np.array_equal(counted, np.arange(1, whole * 8 + 1))
    assert all(fixed[k]["tokens"].shape == (batch, 8) for k in range(len(fixed)))
    with pytest.raises(IndexError):
        fixed[len(fixed)]


def test_fixed_count_limits():
    split = split_of(numbers(1000, 8))
    assert len(split.fixed(4, 3)) == 3 and len(split.fixed(4, 10**6)) == len(split.fixed(4, 0))
    assert equal(split.fixed(4, 3)[2], split.fixed(4, 0)[2])
    parts = [split.fixed(5, 0).rows(24, r, r + 1) for r in range(5)]
    assert equal({n: np.concatenate([p[n] for p in parts]) for n in parts[0]}, split.fixed(5, 0)[24])


def test_context_longer_than_the_split_names_both():
    with pytest.raises(UserError, match="model.context = 9 is longer than the train split, which has 9 tokens"):
        numbers(9, 9)


def test_segments_equal_a_search_token_by_token():
    rng = np.random.default_rng(0)
    for _ in range(20):
        context, size = int(rng.integers(1, 20)), 200
        starts = np.unique(np.append(0, rng.integers(0, size, rng.integers(0, 60))))
        windows = numbers(size, context, starts, segments=True)
        document = np.searchsorted(starts, np.arange(size), side="right")
        window_B = rng.integers(windows.count, size=6)
        shift_B = rng.integers(windows.slack + 1, size=6)
        batch = windows.gather(window_B, shift_B)
        for b in range(6):
            at = batch["tokens"][b]
            own, nxt = document[at], document[at + 1]
            assert np.array_equal(batch["segments"][b], own - own[0] + 1)
            assert np.array_equal(batch["positions"][b], at - np.maximum(starts[own - 1], at[0]))
            assert np.array_equal(batch["weights"][b], (own == nxt).astype(np.float32))


def test_segments_begin_at_one_whatever_the_first_flag():
    assert segments_of(np.array([[True, False, True]]))["segments"].tolist() == [[1, 1, 2]]
    assert segments_of(np.array([[False, False, True]]))["positions"].tolist() == [[0, 1, 0]]
    assert not document_begins(np.array([0, 5]), np.array([5]), 3).any()


@pytest.mark.parametrize("weights", [[1.0], [7, 3], [0.5, 0.3, 0.2], [1, 999]])
def test_mixture_places_are_even_and_complete(weights):
    mixture = Mixture(weights)
    places = np.arange(3 * CYCLE)
    source, nth = mixture.locate(places)
    share = np.array(weights) / sum(weights)
    for c in range(len(weights)):
        assert np.array_equal(nth[source == c], np.arange((source == c).sum()))  # none left out, none twice
        taken = np.cumsum(source == c)
        assert np.abs(taken - share[c] * (places + 1)).max() <= max(1.5, 3.0 * len(weights) * 0.5)
    far = np.array([10**15])
    assert mixture.locate(far + CYCLE)[1] - mixture.locate(far)[1] == np.bincount(source)[mixture.locate(far)[0]] // 3


def test_mixture_ends_with_its_first_exhausted_source():
    mixture = Mixture([3, 1])
    source, nth = mixture.locate(np.arange(4000))
    counts = [100, 10]
    expected = next(i for i in range(4000) if nth[i] >= counts[source[i]])
    assert mixture.places_until(counts) == expected


def test_mixed_batches_take_every_window_of_each_source_once_an_epoch():
    left, right = numbers(161, 8), numbers(81, 8)
    stream = split_of(left, right, weights=[3, 1]).batches(4, seed=0)
    source, _ = Mixture([3, 1]).locate(np.arange(4 * 60))
    firsts = np.concatenate([stream[k]["tokens"][:, 0] for k in range(60)])
    for c, windows in enumerate([left, right]):
        own = firsts[source == c][: 2 * windows.count].reshape(2, -1)
        for epoch in own:
            assert np.array_equal(np.sort(epoch) - epoch.min(), np.arange(windows.count) * 8)


def test_a_mixture_of_text_and_task_is_one_batch(make_config, tmp_path):
    (tmp_path / "a.txt").write_text("abcdefghij" * 50)
    source = ((0.75, f"text(path={str(tmp_path / 'a.txt')!r})"), (0.25, "copy(symbols=5)"))
    data = open_data(make_config(source=source, tokenizer="bytes", pack="segments", context=8))
    assert data.vocab == 257
    batch = data.train.batches(16, 0)[0]
    is_text = batch["tokens"][:, 0] >= 97
    assert is_text.sum() == 12 and batch["tokens"].shape == (16, 8)
    assert batch["weights"][is_text].all() and not batch["weights"][~is_text].all()
    assert (batch["segments"] == 1).all() and (batch["positions"] == np.arange(8)).all()
    assert len(data.valid.fixed(4, 0)) > 0


@pytest.mark.parametrize(
    "source", [((0, "copy()"), (1, "copy()")), ((1, "copy()"), (1e6, "copy()")), ("copy()", "copy()"), ()]
)
def test_weights_must_be_weights(make_config, source):
    with pytest.raises(UserError) as error:
        open_data(make_config(source=source))
    assert error.value.where == "config.data.source"
