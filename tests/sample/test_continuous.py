"""What a row writes that takes requests at any time is what it writes alone, to the last bit."""

import jax
import numpy as np
import pytest

from gpt_jax.errors import NonFiniteError, UserError
from gpt_jax.sample import knobs
from gpt_jax.sample.continuous import ContinuousBatch
from gpt_jax.sample.decode import Sampling
from gpt_jax.sample.engine import continuous
from gpt_jax.sample.likelihood import likelihoods
from gpt_jax.sample.processors import Vocabulary
from tests.model.variants import config, parameters
from tests.sample.test_decode import C, decoder, prompts

LENGTHS, LIMITS = (3, 40, 1, 17, 5, 33, 2), (12, 9, 20, 3, 1, 30, 8)


def samplings(vocab):
    given = Vocabulary(vocab)
    return [
        knobs.sampling(given, temperature=0.8),
        knobs.sampling(given, temperature=0.0),
        knobs.sampling(given, temperature=1.3, top_p=0.9),
        knobs.sampling(given, top_k=5),
    ]


def requests(c):
    made = samplings(c.vocab)
    return [
        (prompt, limit, made[i % len(made)], 11 * i)
        for i, (prompt, limit) in enumerate(zip(prompts(c, LENGTHS), LIMITS, strict=True))
    ]


def served(batch, given, turns=3):
    """The row of each request, which begin as rows become free, every one with what it notes."""
    waiting, at, found = list(enumerate(given)), {}, {}
    while waiting or at:
        while waiting and batch.free:
            number, (prompt, limit, sampling, seed) = waiting.pop(0)
            at[batch.join(prompt, limit, sampling, seed, number % 2 == 0)] = number
        seen = batch.look(True)
        for row in list(at):
            written, going = batch.written(seen, row)
            if not going:
                found[at.pop(row)] = written
                batch.leave(row)
        batch.advance(turns, 0)
    return [found[number] for number in range(len(given))]


# Of each kind of cache one, and what says how a layer is computed; ``python -m tests.sample.every_variant`` tries all.
SAMPLE = [
    ("attention", "chunked(size=6)"),
    ("attention", "gated_delta"),
    ("attention", "latent(rank=6, rope_dim=2)"),
    ("attention", "sliding(window=5)"),
    ("position", "t5"),
    ("norm", "dyt"),
    ("mlp", "moe(experts=4, z=0.1)"),
    ("block", "post(deepnorm=True, embed_skip=True)"),
]


@pytest.mark.every(4)
@pytest.mark.parametrize("kind, name", SAMPLE)
def test_a_variant_writes_what_a_batch_of_all_writes(kind, name):
    check(config(context=64, **{kind: name}))


def check(c):
    """Of a context of 64."""
    given = requests(c)
    ids, limits, made, seeds = map(list, zip(*given, strict=True))
    expected = decoder(c).generate(ids, max_new_tokens=limits, sampling=made, seeds=seeds)
    found = served(ContinuousBatch(decoder(c), 3, 1, 4), given)
    assert [row.tokens for row in found] == expected.tokens
    for row, logprobs in zip(found, expected.logprobs, strict=True):
        np.testing.assert_allclose(row.notes["logprobs"], logprobs, atol=1e-4)


def test_neighbours_make_no_difference_to_a_single_bit():
    batch, given = ContinuousBatch(decoder(), 4, 1, 4), requests(C)
    alone = [served(batch, [one])[0] for one in given]
    for turns in (1, 2, 5):
        together = served(batch, given, turns)
        assert [row.tokens for row in together] == [row.tokens for row in alone]
        assert [row.notes["logprobs"] for row in together] == [row.notes["logprobs"] for row in alone]


def test_the_most_likely_tokens_are_noted_where_they_are_asked_for():
    batch, (given, *_) = ContinuousBatch(decoder(), 2, 1, 4), requests(C)
    (row,) = served(batch, [given])
    assert [len(ids) for ids in row.notes["top_ids"]] == [4] * len(row.tokens)
    assert all(tops == sorted(tops, reverse=True) for tops in row.notes["top_logprobs"])
    text = [*given[0], *row.tokens]
    found = batch.likelihood(text)
    np.testing.assert_allclose(found.logprobs[len(given[0]) - 1 :], row.notes["logprobs"], atol=1e-5)
    assert found.top_ids[len(given[0]) - 1 :] == row.notes["top_ids"]
    assert found.logprobs == pytest.approx(likelihoods(decoder(), [text])[0].logprobs, abs=1e-5)


def test_nothing_is_compiled_for_a_request():
    batch = ContinuousBatch(decoder(), 2, 3, 4)
    batch.warm()
    programs = continuous.compiled(batch._program.platform)
    before = [program._cache_size() for program in programs]
    stops = Sampling(stop_ids=(1, 2, 3))
    for given in ((prompt, limit, stops, seed) for prompt, limit, _, seed in requests(C)):
        served(batch, [given])
    served(batch, requests(C))
    assert [program._cache_size() for program in programs] == before


def test_a_row_that_is_left_is_free():
    batch, given = ContinuousBatch(decoder(), 1, 1, 4), requests(C)
    (expected,) = served(batch, given[:1])
    prompt, _, sampling, seed = given[5]
    row = batch.join(prompt, 20, sampling, seed, False)
    batch.advance(2, 0)
    assert not batch.free
    batch.leave(row)
    assert batch.free == 1
    assert served(batch, given[:1])[0].tokens == expected.tokens


def test_what_cannot_be_served_is_refused_and_takes_no_row():
    batch = ContinuousBatch(decoder(), 1, 1, 4)
    with pytest.raises(UserError, match="do not fit"):
        batch.join([1] * C.context, 1, Sampling(), 0, False)
    with pytest.raises(UserError, match="ready"):
        batch.join([1], 1, knobs.sampling(Vocabulary(C.vocab), min_p=0.1), 0, False)
    assert batch.free == 1


def test_scores_that_are_not_finite_are_not_blamed_on_a_request():
    broken = decoder().with_params(jax.tree.map(lambda leaf: leaf * np.nan, parameters(C)))
    batch = ContinuousBatch(broken, 2, 1, 3)
    row = batch.join([1, 2], 4, Sampling(), 0, False)
    with pytest.raises(NonFiniteError, match="not finite"):
        batch.written(batch.look(False), row)


def test_what_is_stopped_compiles_no_more():
    batch, compiled = ContinuousBatch(decoder(), 2, 1, 3), []
    batch.join = lambda prompt, *rest: compiled.append(len(prompt))
    batch.leave = batch.likelihood = lambda what: None
    batch.warm(lambda: len(compiled) == 1)
    assert compiled == [32]
