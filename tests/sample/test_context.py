"""Texts that are longer than the context: through a window, or read anew, they are what the uncached model says."""

import dataclasses

import jax
import numpy as np
import pytest

from gpt_jax.errors import UserError
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.engine import context
from gpt_jax.sample.platform import ACCELERATOR, CPU
from tests.model.variants import config, logits, parameters

CONTEXT, NEW = 12, 21
LENGTHS = (3, 9, 31)  # of prompts; the last is longer than the context by itself
WARM = Sampling()
SMALL_PARTS = dataclasses.replace(CPU, chunk=5)  # so that prompts are read in several
FIXED_TURNS = dataclasses.replace(ACCELERATOR, turns=4)


def prompts(vocab, lengths=LENGTHS):
    random = np.random.default_rng(0)
    return [random.integers(vocab, size=length).tolist() for length in lengths]


def written(c, beyond, given, platform=SMALL_PARTS, **asked):
    decoder = Decoder(c, parameters(c), platform).beyond(beyond)
    options = {"max_new_tokens": NEW, "sampling": WARM, "seeds": range(len(given))} | asked
    return decoder.generate(given, **options)


def assert_scores(got, given, scores_of):
    """``scores_of``: the whole texts, padded to one length -> log-probabilities of the tokens after each, [B, T, V]."""
    length = max(len(prompt) for prompt in given) + NEW
    texts = [prompt + new for prompt, new in zip(given, got.tokens, strict=True)]
    whole_BT = np.array([text + [0] * (length - len(text)) for text in texts], np.int32)
    scores_BTV = np.asarray(jax.nn.log_softmax(scores_of(whole_BT)))
    for prompt, new, logprobs, scores_TV in zip(given, got.tokens, got.logprobs, scores_BTV, strict=True):
        at = len(prompt) - 1 + np.arange(len(new))
        np.testing.assert_allclose(logprobs, scores_TV[at, new], atol=1e-4)


@pytest.mark.parametrize("position", ["rope(theta=100.0)", "fire"])  # tests.sample.every_variant has the others
def test_a_rolling_text_is_that_of_a_sliding_window(position):
    """The uncached model with a window of ``context`` and room for the whole text, teacher-forced."""
    c = config(context=CONTEXT, position=position)
    sliding = config(context=64, position=position, attention=f"sliding(window={CONTEXT})")
    given = prompts(c.vocab)
    assert_scores(written(c, "roll", given), given, lambda whole_BT: logits(sliding, parameters(c), whole_BT))


def last_logits(c, whole_BT, first_of, rises):
    """Logits after each token where the model reads nothing before ``first_of(length)``.

    Args:
      rises: whether positions are those of the whole text.
    """
    ends_T = np.arange(1, whole_BT.shape[1] + 1)
    firsts_T = np.array([first_of(end) for end in ends_T])
    at_TC = np.arange(c.context)[None] + firsts_T[:, None]
    tokens_BTC = whole_BT[:, at_TC.clip(0, whole_BT.shape[1] - 1)]
    at_TC = at_TC if rises else at_TC - firsts_T[:, None]
    found_BTCV = [np.asarray(logits(c, parameters(c), tokens_TC, at_TC)) for tokens_TC in tokens_BTC]
    return np.stack([found_TCV[ends_T - 1, ends_T - 1 - firsts_T] for found_TCV in found_BTCV])


@pytest.mark.parametrize("attention", ["latent(rank=6, rope_dim=2)", "strided(stride=4)"])
def test_a_rolling_layer_reads_the_last_tokens(attention):
    """Of one layer, where a token's scores depend on its window alone: the last ``context`` tokens read by themselves."""
    c = config(context=CONTEXT, position="rope", attention=attention, layers=1)
    given = prompts(c.vocab)
    got = written(c, "roll", given)
    assert_scores(got, given, lambda whole: last_logits(c, whole, lambda end: max(0, end - CONTEXT), rises=True))


@pytest.mark.parametrize(
    "changes", [{"position": "learned"}, {"position": "rope", "attention": ("sliding(window=3)", "full")}]
)
def test_a_text_that_is_read_anew_begins_with_the_half_that_is_left(changes):
    c = config(context=CONTEXT, **changes)
    given = prompts(c.vocab)

    def first_of(end):
        return int(context.first_kept(np.array(end), CONTEXT))

    assert_scores(written(c, "reread", given), given, lambda whole: last_logits(c, whole, first_of, rises=False))


@pytest.mark.parametrize("length", [1, 2, 3, 12, 13])
def test_what_is_cut_leaves_half_of_the_context(length):
    firsts = [int(context.first_kept(np.array(end), length)) for end in range(1, 100)]
    read = [end - first for end, first in zip(range(1, 100), firsts, strict=True)]
    assert max(read) == length and min(read[length:]) == max(1, length // 2) and firsts[:length] == [0] * length
    assert set(np.diff(firsts)) <= {0, context.cut(length)}


@pytest.mark.parametrize("beyond, position", [("roll", "rope"), ("reread", "learned")])
def test_a_row_beyond_the_context_does_not_depend_on_others(beyond, position):
    """Among others, replaced on a platform of fixed turns, and where a text is continued."""
    c = config(context=CONTEXT, position=position, layers=1)
    given = prompts(c.vocab, (3, 9, 31))
    together = written(c, beyond, given).tokens
    replaced = written(c, beyond, given, FIXED_TURNS, rows=2, max_new_tokens=[2, NEW, NEW])
    assert replaced.tokens == [together[0][:2], *together[1:]]
    alone = written(c, beyond, [given[1] + together[1][:8]], seeds=[1], max_new_tokens=NEW - 8)
    assert alone.tokens[0] == together[1][8:]


def test_the_smallest_context_is_read_anew():
    c = config(context=1, layers=1)
    assert len(written(c, "reread", prompts(c.vocab)).tokens[0]) == NEW


def test_positions_that_end_cannot_roll_on():
    c = config(context=CONTEXT, position="learned")
    with pytest.raises(UserError) as error:
        Decoder(c, parameters(c)).beyond("roll")
    assert all(word in str(error.value) for word in ("learned", "model.context = 12", "reread")), str(error.value)
    with pytest.raises(UserError, match="roll"):
        Decoder(c, parameters(c)).beyond("rol")
    assert context.bounded(config(position="rope", attention="full(position='learned')")) == "learned"
