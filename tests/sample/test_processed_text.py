"""What processors do to a text: those that look back at it, and those that keep a state."""

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.engine import chain
from gpt_jax.sample.knobs import KIND, sampling
from gpt_jax.sample.processors import Vocabulary
from tests.model.variants import config, parameters
from tests.sample.definitions import Case, kept, softmax
from tests.sample.every_processor import process, step_of

C = config(context=64)
NEW = 28
STOPS = {"min_new_tokens": tuple(range(20)), "exponential_decay": (5,)}  # of 37 tokens
TAU, ETA = 1.5, 0.5
ROWS = {
    "plain": dict(temperature=0.1),
    "no_repeat_ngram": dict(temperature=0.1, no_repeat_ngram_size=1),
    "presence": dict(temperature=0.1, presence_penalty=1e4),
    "dry": dict(temperature=0.1, processors=("dry(multiplier=1e4, allowed_length=1)",)),
    "min_new_tokens": dict(temperature=50.0, min_new_tokens=9),
    "exponential_decay": dict(exponential_decay_length_penalty=(6, 1e6)),
    "mirostat": dict(processors=(f"mirostat(tau={TAU}, eta={ETA})",)),
}
RANDOM = np.random.default_rng(0)
PROMPTS = dict(zip(ROWS, (RANDOM.integers(C.vocab, size=n).tolist() for n in (7, 4, 9, 6, 3, 12, 5)), strict=True))


@pytest.fixture(scope="module")
def rows() -> dict[str, dict]:
    """What each row wrote, decoded side by side."""
    samplings = [
        sampling(Vocabulary(C.vocab, stop_ids=STOPS[name] if name in STOPS else ()), **knobs)
        for name, knobs in ROWS.items()
    ]
    got = Decoder(C, parameters(C)).generate(
        list(PROMPTS.values()),
        max_new_tokens=NEW,
        sampling=samplings,
        seeds=range(len(ROWS)),
        noted=("final_logprobs",),
    )
    surprises = [-np.array(values) / np.log(2) for values in got.notes["final_logprobs"]]
    return {name: {"new": new, "bits": bits} for name, new, bits in zip(ROWS, got.tokens, surprises, strict=True)}


def pairs(tokens):
    return list(zip(tokens, tokens[1:], strict=False))


def test_without_them_the_text_repeats_itself(rows):
    new = rows["plain"]["new"]
    assert len(set(new)) < len(new) == NEW and len(set(pairs(new))) < NEW - 1


def test_no_token_comes_twice_with_ngrams_of_one(rows):
    assert len({*PROMPTS["no_repeat_ngram"], *rows["no_repeat_ngram"]["new"]}) == NEW + len(
        set(PROMPTS["no_repeat_ngram"])
    )


def test_presence_counts_what_was_written_and_not_the_prompt(rows):
    new = rows["presence"]["new"]
    assert len(set(new)) == NEW and set(new) & set(PROMPTS["presence"])


def test_dry_repeats_no_pair(rows):
    found = pairs([*PROMPTS["dry"], *rows["dry"]["new"]])
    assert len(set(found)) == len(found) and len(set(rows["dry"]["new"])) < NEW


def test_no_text_ends_too_early(rows):
    new = rows["min_new_tokens"]["new"]
    assert not set(new[:9]) & set(STOPS["min_new_tokens"]) and new[-1] in STOPS["min_new_tokens"] and len(new) < NEW


def test_a_text_ends_when_that_has_got_likely_enough(rows):
    new = rows["exponential_decay"]["new"]
    assert (new[-1],) == STOPS["exponential_decay"] and len(new) <= 8


def test_mirostat_keeps_the_surprise(rows):
    """mu changes by eta (tau - surprise) a token, and stays between 0 and 2 tau + eta tau here."""
    bits = rows["mirostat"]["bits"]
    assert len(bits) == NEW and abs(bits.mean() - TAU) < (2 + ETA) * TAU / (ETA * NEW) + 0.05


def test_mirostat_follows_its_definition_over_a_text():
    """mu after each token, against float64; tokens are given, so that both see the same."""
    random, tau, eta = np.random.default_rng(4), 2.0, 0.4
    links, knobs = chain.join([[registry.build(KIND, f"mirostat(tau={tau}, eta={eta})", Vocabulary(C.vocab))]])
    mu = 2 * tau
    for _ in range(6):
        scores_V = (2 * random.standard_normal(C.vocab)).astype(np.float32)
        step = step_of([Case(scores_V, (1,), 1, (0,), ())])
        got_BV = process(links, knobs, scores_V[None], step)
        surprise_V = -np.log2(softmax(scores_V.astype(np.float64)))
        wanted_V = np.where(surprise_V <= mu, scores_V, -np.inf)
        np.testing.assert_array_equal(kept(np.asarray(got_BV[0])), kept(wanted_V))
        token = int(random.choice(np.flatnonzero(kept(wanted_V))))
        mu -= eta * (-np.log2(softmax(wanted_V.astype(np.float64))[token]) - tau)
        knobs = chain.advance(links, knobs, got_BV, np.array([token]), step)
        assert abs(float(knobs[0]["mu_B"][0]) - mu) < 1e-5
