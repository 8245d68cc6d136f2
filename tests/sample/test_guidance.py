"""Guidance by a negative prompt: what transformers' definition says, from the model's own scores without a cache."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from gpt_jax.data.tokenizers.bytes import Bytes
from gpt_jax.errors import UserError
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.engine.guidance import Guidance
from gpt_jax.sample.knobs import sampling
from gpt_jax.sample.platform import CPU
from gpt_jax.sample.processors import Vocabulary
from tests.model.test_hugging_face import to_torch
from tests.model.variants import config, logits, parameters
from tests.sample.test_platform import FOUR, lowered, waits

C = config(kv_heads=4, context=64)
NEW = 10
RANDOM = np.random.default_rng(0)
GIVEN = [RANDOM.integers(C.vocab, size=length).tolist() for length in (9, 3, 6, 5)]
NEGATIVE = tuple(RANDOM.integers(C.vocab, size=20).tolist())
# Off, after the last token, after a longer text, and towards it: beside each other.
GUIDED = [None, Guidance(2.5), Guidance(1.5, NEGATIVE), Guidance(-0.5, NEGATIVE[:2])]
ROWS = [Sampling(greedy=True, guidance=given) for given in GUIDED]


@functools.cache
def decoder(platform):
    return Decoder(C, parameters(C), platform)


def run(rows=ROWS, prompts=GIVEN):
    return decoder(CPU).generate(prompts, max_new_tokens=NEW, sampling=rows, seeds=range(len(prompts)))


def last_scores(ids):
    whole = np.zeros((1, C.context), np.int32)
    whole[0, : len(ids)] = ids
    return np.asarray(jax.nn.log_softmax(logits(C, parameters(C), whole)[0, len(ids) - 1]))


def by_hand(prompt, guidance, new=NEW):
    """Greedily, each token from both whole texts."""
    found = []
    for _ in range(new):
        given = last_scores(prompt + found)
        if guidance is not None:
            other = last_scores([*(guidance.negative or prompt[-1:]), *found])
            given = other + guidance.scale * (given - other)
        found.append(int(given.argmax()))
    return found


@functools.cache
def expected():
    return [by_hand(prompt, guidance) for prompt, guidance in zip(GIVEN, GUIDED, strict=True)]


def test_rows_with_and_without_guidance():
    got = run()
    assert got.tokens == expected()
    assert all(by_hand(prompt, None) != row for prompt, row in zip(GIVEN[1:], got.tokens[1:], strict=True))
    for prompt, row, logprobs in zip(GIVEN, got.tokens, got.logprobs, strict=True):  # which are the model's own
        assert logprobs[3] == pytest.approx(last_scores(prompt + row[:3])[row[3]], abs=1e-4)


def test_streamed_on_an_accelerator():
    parts = [*decoder(FOUR).stream(GIVEN, max_new_tokens=NEW, sampling=ROWS, seeds=range(4), every=4)]
    assert [sum(rows, []) for rows in zip(*(part.tokens for part in parts), strict=True)] == expected()


def test_rows_that_have_ended_are_replaced_with_their_companions():
    """Four at a time, of which three end at once beside one that goes on."""
    numbers, lengths = [2, 1, 3, 0, 2, 1, 3], [10, 2, 2, 2, 10, 7, 10]
    prompts, rows = ([of[number] for number in numbers] for of in (GIVEN, ROWS))
    got = decoder(CPU).generate(prompts, max_new_tokens=lengths, sampling=rows, seeds=range(7), rows=4)
    assert got.tokens == [expected()[number][:length] for number, length in zip(numbers, lengths, strict=True)]


def test_greedy_texts_are_those_of_transformers():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    hf = transformers.GPT2Config(
        n_layer=C.layers, n_embd=C.width, n_head=C.heads, n_inner=C.mlp_width, n_positions=C.context, vocab_size=C.vocab,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    peer = transformers.GPT2LMHeadModel(hf).eval()
    peer.load_state_dict(to_torch(parameters(C)), strict=False)
    for row in (1, 2, 3):
        negative = GUIDED[row].negative
        knobs = {"negative_prompt_ids": torch.tensor([negative])} if negative else {}
        asked = dict(max_new_tokens=NEW, do_sample=False, guidance_scale=GUIDED[row].scale, pad_token_id=0)
        found = peer.generate(torch.tensor([GIVEN[row]]), **asked, **knobs)
        assert found[0, len(GIVEN[row]) :].tolist() == expected()[row]


def test_knobs():
    given = Vocabulary(257, Bytes(), (256,))
    assert sampling(given).guidance is None and sampling(given, negative_prompt="ab").guidance is None
    assert sampling(given, guidance_scale=2.0, negative_prompt="ab").guidance == Guidance(2.0, (97, 98))
    assert sampling(given, guidance_scale=0.0, negative_prompt=(5, 6)).guidance == Guidance(0.0, (5, 6))
    opened = Bytes()
    opened.opening = (256,)
    made = sampling(Vocabulary(257, opened), guidance_scale=2.0, negative_prompt="a")
    assert made.guidance == Guidance(2.0, (256, 97))


def test_a_negative_prompt_has_to_fit():
    for ids, said in ((NEGATIVE * 3, "do not fit into 64 positions"), ((99,), "outside the vocabulary")):
        rows = [ROWS[0], dataclasses.replace(ROWS[1], guidance=Guidance(2.0, ids))]
        with pytest.raises(UserError, match=said) as raised:
            run(rows, GIVEN[:2])
        assert "negative prompt 2 of 2" in raised.value.where


def test_nothing_waits_for_the_host():
    assert not waits(lowered(FOUR, ROWS[1]))
