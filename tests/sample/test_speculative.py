"""Speculative decoding: the same texts, the same distributions, a row's text its own (more cases: ``every_speculation``)."""

import functools
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax import configs
from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.sample import chunks
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.likelihood import likelihoods
from gpt_jax.sample.processors import Processor
from gpt_jax.sample.speculative import acceptance, choice, passes
from gpt_jax.sample.speculative.acceptance import Acceptance
from gpt_jax.sample.speculative.draft import FirstLayers
from gpt_jax.sample.speculative.lookup import Lookup, _found
from gpt_jax.sample.speculative.method import Speculative
from gpt_jax.sample.text import sample_command
from tests.model.variants import config, parameters
from tests.sample.every_speculation import TINY, another, chi_square, drawn, expected_rate, prompts, sampled

C = config(context=64, attention=("full", "sliding(window=5)"))
PROMPT = (1, 2, 1)
NEW = [12, 4, 20]
KINDS = ("lookup", "first layers", "another model")
SAMPLE = Config.from_dict(configs.load("base").to_dict()).sample


@functools.cache
def method(kind):
    made = {
        "lookup": lambda: Speculative(Lookup(3, 2)),
        "first layers": lambda: Speculative(FirstLayers(3, 1)),
        "another model": lambda: another(C, drawn(C, 1, 0.3), 3),
    }
    return made[kind]()


@functools.cache
def decoder(kind=None):
    return Decoder(C, parameters(C)) if kind is None else Decoder(C, parameters(C), method=method(kind))


def given(seed=0):
    return prompts(C, [5, 1, 9], np.random.default_rng(seed))


def run(kind, sampling, seeds=(0, 1, 2), rows=3, asked=None, new=NEW):
    asked = given() if asked is None else asked
    return decoder(kind).generate(asked, max_new_tokens=new, sampling=sampling, seeds=seeds, rows=rows)


def count_to_three(logits_BV, step, at_B):
    """Forbids the token of a counter that goes round: a processor whose knobs change."""
    return jnp.where(jnp.arange(logits_BV.shape[1]) % 3 == at_B[:, None], -jnp.inf, logits_BV)


def counted(logits_BV, tokens_B, step, at_B):
    return {"at_B": (at_B + 1 + tokens_B % 2) % 3}


COUNTER = Processor(count_to_three, {"at_B": np.int32(0)}, advance=counted)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_texts_are_those_of_plain_decoding(kind):
    """Rows of their own lengths, ended by a stop id or not, replaced or not, with processors that keep something."""
    free = run(None, Sampling((COUNTER,), greedy=True))
    stop = free.tokens[2][9]
    asked = [Sampling((COUNTER,), greedy=True, stop_ids=stops) for stops in ((), (), (stop,))]
    plain = run(None, asked)
    assert len(plain.tokens[2]) < NEW[2]
    got = run(kind, asked, rows=2 if kind == "lookup" else 3)
    assert got.tokens == plain.tokens
    for ours, theirs in zip(got.logprobs, plain.logprobs, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for tokens, row in zip(got.tokens, got.acceptance, strict=True):
        assert row.written == len(tokens) - 1 and row.accepted <= row.tested <= row.proposed <= 3 * row.passes
        assert row.passes <= row.written <= row.passes + row.accepted


def test_a_draft_that_is_the_model_itself_is_always_accepted():
    """Greedy, all tokens of a pass are written; so each row's cache is right, though it has turns of its own."""
    how, new = Sampling((COUNTER,), greedy=True), [13, 13, 17]
    same = Decoder(C, parameters(C), method=another(C, parameters(C), 3))
    got = same.generate(given(), max_new_tokens=new, sampling=how, seeds=range(3))
    assert got.tokens == run(None, how, new=new).tokens
    whole = [Acceptance(passes=n, written=4 * n, proposed=3 * n, tested=3 * n, accepted=3 * n) for n in (3, 3, 4)]
    assert got.acceptance == whole


def test_texts_that_there_are_are_read_by_the_model_itself():
    c = config(context=16, position="rope(theta=100.0)")
    plain, drafting = Decoder(c, parameters(c)), Decoder(c, parameters(c), method=method("lookup"))
    (text,) = prompts(c, [30], np.random.default_rng(1))
    for able in (drafting, drafting.with_params(parameters(c))):
        assert likelihoods(able, [text[:17]]) == likelihoods(plain, [text[:17]])
        np.testing.assert_array_equal(
            chunks.read(able, text, "roll").logprobs, chunks.read(plain, text, "roll").logprobs
        )


def test_a_text_is_its_rows_own_and_streams_in_parts():
    how = Sampling((COUNTER,))
    together = run("another model", how)
    turned = run("another model", how, seeds=(2, 1, 0), asked=given()[::-1], new=NEW[::-1])
    assert turned.tokens[::-1] == together.tokens and turned.acceptance[::-1] == together.acceptance
    asked = dict(max_new_tokens=NEW, sampling=how, seeds=(0, 1, 2))
    parts = list(decoder("another model").stream(given(), **asked, every=4))
    assert [sum((part.tokens[row] for part in parts), []) for row in range(3)] == together.tokens
    assert parts[-1].acceptance == together.acceptance and len(parts) == 5


def test_sampled_texts_have_the_models_distribution_and_tests_their_rate():
    near = drawn(TINY, 7)
    texts, found = sampled(another(TINY, near, 1), PROMPT, 20_000, 3)
    assert chi_square(texts, PROMPT, 3) > 1e-4
    first = [
        a for a in found if a.passes == 1
    ]  # where the second token was accepted, the third is drawn in the same pass
    rate, exact = len(first) / len(found), expected_rate(near, PROMPT)
    assert abs(rate - exact) < 4.5 * np.sqrt(exact * (1 - exact) / len(found)) < 0.02
    assert 0.2 < exact < 0.9


def test_a_wrong_rule_gives_another_distribution(monkeypatch):
    """What is drawn instead of a token that is not accepted comes from p."""
    monkeypatch.setattr(passes, "residual", lambda p_BV, q_BV: jnp.log(p_BV))
    jax.clear_caches()
    texts, _ = sampled(another(TINY, drawn(TINY, 7), 1), PROMPT, 10_000, 3)
    jax.clear_caches()
    assert chi_square(texts, PROMPT, 3) < 1e-4


def test_the_rule_at_its_edges():
    p_BV = jnp.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    q_BV = jnp.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75], [0.0, 0.0, 0.0]])
    kept = functools.partial(acceptance.kept, p_BV, q_BV)
    assert kept(jnp.array([0, 1, 0]), jnp.array([0.999, 0.999, 0.0])).tolist() == [True, True, False]
    assert not kept(jnp.array([2, 2, 2]), jnp.zeros(3)).any()
    rest = np.exp(np.asarray(acceptance.residual(p_BV, q_BV)))
    np.testing.assert_allclose(rest, [[0.5, 0.5, 0], [0.5, 0.25, 0], [0, 0, 0]])  # p, p - q, and nothing
    shown = acceptance.decided(jnp.array([[1.0, 3.0, 3.0], [-jnp.inf] * 3]), jnp.array([True, True]))
    np.testing.assert_allclose(acceptance.shares(shown), [[0, 1, 0], [0, 0, 0]])


def test_lookup_finds_what_followed_the_longest_ngram_first():
    def slow(text, tokens, ngram):
        for size in range(min(ngram, len(text) - 1), 0, -1):
            for start in range(len(text) - size):
                if text[start : start + size] == text[-size:]:
                    return text[start + size :][:tokens]
        return []

    random = np.random.default_rng(0)
    lengths = random.integers(1, 20, size=40)
    texts_BS = random.integers(3, size=(40, 24))
    for tokens, ngram in ((4, 2), (1, 3)):
        found_BG, count_B = jax.vmap(functools.partial(_found, tokens=tokens, ngram=ngram))(texts_BS, lengths)
        for text_S, length, found_G, count in zip(texts_BS.tolist(), lengths, found_BG, count_B, strict=True):
            assert found_G[:count].tolist() == slow(text_S[:length], tokens, ngram), (text_S, length)


def refusal(c=C, opened=choice.refused, tokenizer=None, **knobs):
    with pytest.raises(UserError) as error:
        choice.of_config(replace(SAMPLE, **knobs), c, tokenizer, opened)
    return str(error.value)


@pytest.mark.parametrize(
    "changes, knobs, words",
    [
        ({}, dict(draft_layers=1, prompt_lookup_num_tokens=3), "draft_layers and prompt_lookup_num_tokens are set"),
        ({}, dict(draft_layers=2), "the model has 2 layers"),
        ({}, dict(draft="runs/small"), "runs/small cannot be read here"),
        ({"attention": ("full", "retention")}, dict(draft_layers=1), "retention attention keeps a state"),
        ({"attention": "linear"}, dict(prompt_lookup_num_tokens=2), "linear attention keeps a state"),
        ({"attention": "gated_delta"}, dict(draft="x"), "gated_delta attention keeps a state"),
    ],
)
def test_what_cannot_be_drafted_is_refused(changes, knobs, words):
    assert words in refusal(config(**{"attention": "full", **changes}), **knobs)


def test_a_draft_of_another_vocabulary_or_too_short_is_refused():
    def opened(c, tokenizer=None):
        return lambda name: choice.Draft(c, parameters(c), tokenizer)

    other = config(vocab=38)
    assert "runs/a has 38 tokens, and the model has 37" in refusal(opened=opened(other), draft="runs/a")
    assert "another tokenizer" in refusal(
        opened=opened(C, "b"), tokenizer=SimpleNamespace(fingerprint="a"), draft="runs/a"
    )
    assert "linear attention keeps a state" in refusal(opened=opened(config(attention="linear")), draft="runs/a")
    short = config(context=16)
    made = choice.of_config(replace(SAMPLE, draft="runs/a"), C, None, opened(short))
    with pytest.raises(UserError, match="texts of up to 20 tokens, and the draft's context is 16"):
        made.check([[1] * 8, [1]], [12, 3])


def test_the_command_says_what_was_accepted(capsys):
    asked = replace(SAMPLE, temperature=0.0, max_new_tokens=16, prompt_lookup_num_tokens=3)
    sample_command(C, parameters(C), None, asked, {"prompt_ids": "1 2 1 2 1"}, "ids")
    said = capsys.readouterr().err
    assert said.startswith("note: accepted ") and "drafted tokens, " in said and said.endswith(" tokens a pass\n")
