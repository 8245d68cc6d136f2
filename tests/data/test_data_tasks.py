"""Synthetic tasks: what counts is what can be predicted, and both streams are pure functions of the window's number."""

import math

import numpy as np
import pytest

from gpt_jax.data.open import open_data
from gpt_jax.errors import UserError

TASKS = [
    "copy(symbols=9)",
    "induction(block=5)",
    "modular_addition(p=23)",
    "markov(states=5)",
    "recall(pairs=3, keys=8, values=4)",
]


@pytest.mark.parametrize("pack", ["concat", "segments"])
@pytest.mark.parametrize("call", TASKS)
@pytest.mark.parametrize("context", [15, 16])
def test_contract(call, pack, context, make_config):
    data = open_data(make_config(source=call, context=context, pack=pack))
    stream = data.train.batches(6, seed=2)
    batch = stream[5]
    assert data.tokenizer is None
    assert batch["tokens"].shape == batch["targets"].shape == batch["weights"].shape == (6, context)
    assert batch["tokens"].dtype == batch["targets"].dtype == np.int32 and batch["weights"].dtype == np.float32
    assert np.array_equal(batch["tokens"][:, 1:], batch["targets"][:, :-1])
    assert min(batch["tokens"].min(), batch["targets"].min()) >= 0
    assert max(batch["tokens"].max(), batch["targets"].max()) < data.vocab
    assert set(np.unique(batch["weights"])) <= {0.0, 1.0} and batch["weights"].any(axis=1).all()
    assert ("segments" in batch) == (pack == "segments")
    part = stream.rows(5, 2, 4)
    assert all(np.array_equal(part[name], batch[name][2:4]) for name in batch)
    again = open_data(make_config(source=call, context=context, pack=pack))
    assert np.array_equal(again.train.batches(6, 2)[5]["tokens"], batch["tokens"])
    assert again.fingerprint == data.fingerprint
    fixed = data.valid.fixed(4, 2)
    assert fixed[1]["tokens"].shape == (4, context) and len(fixed) == 2


@pytest.mark.parametrize("call", [task for task in TASKS if "modular" not in task])
def test_streams_do_not_meet(call, make_config):
    data = open_data(make_config(source=call, context=32))
    train = {row.tobytes() for k in range(20) for row in data.train.batches(8, 0)[k]["tokens"]}
    valid = {row.tobytes() for k in range(20) for row in data.valid.fixed(8, 20)[k]["tokens"]}
    assert len(train) == len(valid) == 160 and not train & valid
    other = open_data(make_config(source=call.replace(")", ", seed=1)"), context=32))
    assert other.fingerprint != data.fingerprint
    assert not valid & {row.tobytes() for row in other.valid.fixed(8, 1)[0]["tokens"]}


def counted(batch, row):
    """(position of the target token in its window, target) of what counts in a row."""
    return [(t + 1, int(batch["targets"][row, t])) for t in np.flatnonzero(batch["weights"][row])]


@pytest.mark.parametrize("context", [6, 7])
def test_copy(context, make_config):
    batch = open_data(make_config(source="copy(symbols=5)", context=context)).train.batches(8, 0)[0]
    for row in range(8):
        window = [*batch["tokens"][row], batch["targets"][row, -1]]
        assert window[3] == 5 and max(window[:3]) < 5
        assert counted(batch, row) == [(4 + i, window[i]) for i in range(3)]


def test_induction(make_config):
    batch = open_data(make_config(source="induction(block=5, symbols=50)", context=17)).train.batches(8, 0)[0]
    for row in range(8):
        window = [*batch["tokens"][row], batch["targets"][row, -1]]
        assert window == (window[:5] * 4)[:18]
        assert counted(batch, row) == [(i, window[i - 5]) for i in range(6, 18)]


def test_induction_of_many_lengths(make_config):
    batch = open_data(make_config(source="induction(block=9, shortest=3, symbols=50)", context=30)).train.batches(
        64, 0
    )[0]
    found = []
    for row in range(64):
        window = [*batch["tokens"][row], batch["targets"][row, -1]]
        length = min(n for n in range(1, 31) if window[n:] == window[:-n])
        assert counted(batch, row) == [(i, window[i - length]) for i in range(length + 1, 31)]
        found.append(length)
    assert set(found) == set(range(3, 10))


def test_modular_addition_covers_the_table_once(make_config):
    data = open_data(make_config(source="modular_addition(p=7)", context=3, valid_fraction=0.3))
    seen = []
    for split, windows in ((data.train, 34), (data.valid, 15)):
        batches = split.fixed(1, 0)
        assert len(batches) == windows
        seen.append({tuple(batches[k]["tokens"][0].tolist()) for k in range(windows)})
        for k in range(windows):
            a, b, equals = batches[k]["tokens"][0].tolist()
            assert equals == 7 and counted(batches[k], 0) == [(3, (a + b) % 7)]
    assert not seen[0] & seen[1] and len(seen[0] | seen[1]) == 49


def test_modular_addition_segments_keep_examples_apart(make_config):
    batch = open_data(make_config(source="modular_addition(p=7)", context=9, pack="segments")).train.batches(2, 0)[0]
    assert batch["segments"][0].tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert batch["positions"][0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert batch["weights"][0].tolist() == [0, 0, 1, 0, 0, 0, 1, 0, 0]


def test_markov_entropy_rate_is_the_loss_of_the_true_chain(make_config):
    data = open_data(make_config(source="markov(states=4, concentration=0.7)", context=500))
    batches = [data.train.batches(40, 0)[k] for k in range(20)]
    counts = np.full((4, 4), 1e-9)
    for batch in batches:
        np.add.at(counts, (batch["tokens"], batch["targets"]), 1)
    chain = counts / counts.sum(1, keepdims=True)
    held = data.valid.fixed(400, 1)[0]
    losses = -np.log(chain[held["tokens"], held["targets"]]).mean(1)
    error = losses.std() / math.sqrt(len(losses))
    assert abs(losses.mean() - data.facts["entropy_rate"]) < 4 * error + 1e-3
    first = -np.log(chain[held["tokens"][:, 0], held["targets"][:, 0]])  # equilibrium from the first token on
    assert abs(first.mean() - data.facts["entropy_rate"]) < 4 * first.std() / 20


def test_markov_entropy_rate_of_a_known_chain():
    from gpt_jax.data.sources.markov import equilibrium

    assert np.allclose(equilibrium(np.array([[0.9, 0.1], [0.3, 0.7]])), [0.75, 0.25])


def test_markov_of_given_moves_has_the_published_entropies(make_config):
    # Makkuva et al. 2024: p = 0.5, q = 0.8.
    data = open_data(make_config(source="markov(moves=((0.5, 0.5), (0.8, 0.2)))", context=50))
    assert data.vocab == 2
    assert data.facts == pytest.approx({"entropy_rate": 0.619015, "unigram_entropy": 0.666278}, abs=1e-6)
    tokens = data.train.batches(100, 0)[0]["tokens"]
    after_zero = tokens[:, 1:][tokens[:, :-1] == 0]
    assert abs(after_zero.mean() - 0.5) < 0.05


def test_recall(make_config):
    data = open_data(make_config(source="recall(pairs=3, keys=8, values=4)", context=16))
    batch = data.train.batches(8, 0)[0]
    for row in range(8):
        window = [int(i) for i in (*batch["tokens"][row], batch["targets"][row, -1])]
        table = dict(zip(window[0:6:2], window[1:6:2], strict=True))
        assert len(table) == 3 and all(key < 8 <= value < 12 for key, value in table.items())
        answers = counted(batch, row)
        assert [at for at, _ in answers] == [7, 9, 11, 13, 15]
        assert all(table[window[at - 1]] == value for at, value in answers)


def test_recall_of_every_pair_once(make_config):
    data = open_data(make_config(source="recall(pairs=3, keys=8, values=4, once=True)", context=16))
    batch = data.train.batches(8, 0)[0]
    for row in range(8):
        window = [int(i) for i in batch["tokens"][row, :12]]
        pairs = list(zip(window[::2], window[1::2], strict=True))
        assert sorted(pairs[3:]) == sorted(pairs[:3]) and len(set(pairs)) == 3
        assert [at for at, _ in counted(batch, row)] == [7, 9, 11]


@pytest.mark.parametrize(
    "call, context, message",
    [
        ("copy(symbols=1)", 8, "symbols = 1 is too small"),
        ("copy()", 1, "model.context = 1 is too small"),
        ("induction(block=8)", 8, "does not repeat within model.context = 8"),
        ("induction(block=4, shortest=5)", 8, "shortest = 5"),
        ("markov(moves=((0.5, 0.6), (0.5, 0.5)))", 8, "not the rows of a chain"),
        ("markov(moves=('ab', 'cd'))", 8, "not the rows of a chain"),
        ("markov(moves=(1, 2))", 8, "not the rows of a chain"),
        ("modular_addition()", 2, "an example a b = c must fit"),
        ("modular_addition(p=2)", 8, "pairs held out = 1 is too small"),
        ("markov(states=1)", 8, "states = 1"),
        ("markov(concentration=0)", 8, "concentration=0"),
        ("recall(pairs=4, keys=3)", 64, "keys = 3 is too small"),
        ("recall(pairs=4)", 8, "4 pairs and a query must fit"),
        ("recall(pairs=4, once=True)", 14, "4 pairs and a query of each must fit"),
    ],
)
def test_bad_arguments(call, context, message, make_config):
    with pytest.raises(UserError, match=message):
        open_data(make_config(source=call, context=context))
