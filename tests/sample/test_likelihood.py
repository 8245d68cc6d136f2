"""What is said of a text is what the plain forward pass says, whatever stands beside it."""

import jax
import numpy as np
import pytest

from gpt_jax.errors import UserError
from gpt_jax.sample import likelihood
from gpt_jax.sample.decode import Sampling
from gpt_jax.sample.likelihood import likelihoods
from tests.model.variants import NAMES, VARIANTS, config, logits, parameters
from tests.sample.test_decode import C, decoder, prompts

LENGTHS = (5, 1, 65, 17, 2, 33, 64)


def expected(c, text):
    whole = np.zeros((1, c.context), np.int32)
    whole[0, : min(len(text), c.context)] = text[: c.context]
    scores = np.asarray(jax.nn.log_softmax(logits(c, parameters(c), whole)[0]))[: len(text) - 1]
    return scores[np.arange(len(text) - 1), text[1:]], scores.argmax(1) == text[1:]


@pytest.mark.every(4)
@pytest.mark.parametrize("kind, name", VARIANTS, ids=NAMES)
def test_every_variant_says_what_the_uncached_model_says(kind, name):
    c = config(context=64, **{kind: name})
    texts = prompts(c, LENGTHS)
    for text, found in zip(texts, likelihoods(decoder(c), texts), strict=True):
        logprobs, likeliest = expected(c, text)
        np.testing.assert_allclose(found.logprobs, logprobs, atol=1e-4)
        assert found.likeliest == likeliest.tolist()


def test_the_likeliest_text_is_known():
    (written,) = decoder().generate([[1, 2]], max_new_tokens=8, sampling=Sampling(greedy=True), seeds=[0]).tokens
    (found,) = likelihoods(decoder(), [[1, 2, *written]])
    assert all(found.likeliest[1:])


def test_a_text_alone_is_what_it_is_among_others(monkeypatch):
    texts = prompts(C, [7] * 9 + list(LENGTHS))
    alone = [likelihoods(decoder(), [text])[0] for text in texts]
    for at_once in (1, 64, 4096):
        monkeypatch.setattr(likelihood, "AT_ONCE", at_once)
        for one, found in zip(alone, likelihoods(decoder(), texts), strict=True):
            np.testing.assert_allclose(one.logprobs, found.logprobs, atol=1e-5)
    assert likelihoods(decoder(), []) == []


@pytest.mark.parametrize("text, what", [([], "0 tokens"), ([1] * 66, "66 tokens"), ([1, C.vocab], "outside the vocab")])
def test_a_text_that_the_model_cannot_read_is_named(text, what):
    with pytest.raises(UserError, match=what) as error:
        likelihoods(decoder(), [[1, 2], text])
    assert error.value.where == "text 2 of 2"
