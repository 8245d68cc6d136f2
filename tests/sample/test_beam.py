"""Beam search: transformers' texts, the definition of groups, draws without replacement, and every kind of cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.errors import UserError
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.platform import ACCELERATOR
from gpt_jax.sample.searches import beams
from gpt_jax.sample.searches.beam import Beam
from tests.model.variants import config, logits, parameters
from tests.sample.test_decode import GREEDY, NEW, WARM, C, assert_follows_the_model, decoder, prompts, run

STOPS = Sampling(greedy=True, stop_ids=(3, 11))


def search(given, beam, sampling=STOPS, able=None, new=NEW, seeds=None):
    able = able or decoder()
    return beam.run(able, able.asked(given, new, sampling, seeds or range(len(given))))


def texts(found):
    return [[text.tokens for text in row] for row in found]


def test_transformers_find_the_same_texts():
    """A sample of ``python -m tests.sample.every_beam``."""
    pytest.importorskip("transformers")
    from tests.sample.every_beam import MODES, case, differences

    assert not [line for mode in MODES for line in differences(case(7), mode)]


def test_one_beam_is_greedy():
    given = prompts(C, [9, 3, 16])
    assert texts(search(given, Beam(1), GREEDY)) == [[row] for row in run(given, GREEDY).tokens]


@pytest.mark.parametrize("attention", ["sliding(window=5)", "linear", "latent(rank=8, rope_dim=4)"])
def test_what_is_kept_of_a_row_goes_with_its_beam(attention):
    """Every text has the log-probabilities of the uncached model; prompts are of several lengths."""
    c = config(context=64, attention=attention, position="rope")
    given = prompts(c, [7, 1, 18])
    found = search(given, Beam(3, returned=3), able=Decoder(c, parameters(c)))
    for number in range(3):
        row = [texts[number] for texts in found]
        got = Sampled([text.tokens for text in row], [text.logprobs for text in row])
        for _ in assert_follows_the_model(c, parameters(c), given, got, 1e-4):
            pass
    for row in found:
        assert all(abs(np.mean(text.logprobs) - text.score) < 1e-4 for text in row)


class Sampled:
    def __init__(self, tokens, logprobs):
        self.tokens, self.logprobs = tokens, logprobs


def test_a_text_depends_on_its_prompt_alone_and_not_on_the_platform():
    beam, given = Beam(4, 4, 2, 1.5), prompts(C, [6, 1, 13])
    together = texts(search(given, beam, new=[NEW, 5, 0]))
    assert together[2] == [[]] * beam.returned
    for row, new in ((0, NEW), (1, 5)):
        assert texts(search([given[row]], beam, new=new)) == [together[row]]
    fixed = Decoder(C, parameters(C), ACCELERATOR)
    assert texts(search(given, beam, able=fixed, new=[NEW, 5, 0])) == together


def logprobs_after(text):
    whole = np.zeros((1, C.context), np.int32)
    whole[0, : len(text)] = text
    scores = np.asarray(logits(C, parameters(C), whole)[0, len(text) - 1], np.float64)
    return scores - np.logaddexp.reduce(scores)


def by_definition(prompt, new, stops, groups, beams, penalty, length_penalty):
    """Texts and scores of all groups, the best first: every group is a beam search, and a token costs ``penalty`` for each
    beam of an earlier group that takes it at the same time. A group ends once its best beam cannot be among its texts."""
    running = [[(0.0, ())] for _ in range(groups)]
    ended, going = [[] for _ in range(groups)], [True] * groups
    for length in range(1, new + 1):
        taken = np.zeros(C.vocab)
        for group in filter(lambda g: going[g], range(groups)):
            candidates = [
                (score + after[token] - penalty * taken[token], (*text, token))
                for score, text in running[group]
                for after in [logprobs_after([*prompt, *text])]
                for token in range(C.vocab)
            ]
            candidates = sorted(candidates, key=lambda each: -each[0])[: (1 + len(stops)) * beams]
            last = length == new
            over = [(s / length**length_penalty, text) for s, text in candidates[:beams] if text[-1] in stops or last]
            ended[group] = sorted([*ended[group], *over], key=lambda each: -each[0])[:beams]
            running[group] = [each for each in candidates if each[1][-1] not in stops][:beams]
            for _, text in running[group]:
                taken[text[-1]] += 1
            best, full = running[group][0][0] / length**length_penalty, len(ended[group]) == beams
            going[group] = not (full and best <= ended[group][-1][0])
    return sorted([each for group in ended for each in group], key=lambda each: -each[0])


@pytest.mark.parametrize("groups, penalty, length_penalty", [(2, 0.7, 1.0), (3, 2.0, 0.0)])
def test_groups_are_as_defined(groups, penalty, length_penalty):
    (prompt,) = prompts(C, [5])
    beam = Beam(2 * groups, 2 * groups, groups, penalty, length_penalty)
    (found,) = search([prompt], beam, new=6)
    expected = by_definition(prompt, 6, STOPS.stop_ids, groups, 2, penalty, length_penalty)
    assert [tuple(text.tokens) for text in found] == [text for _, text in expected]
    np.testing.assert_allclose([text.score for text in found], [score for score, _ in expected], atol=1e-4)


def test_candidates_are_drawn_without_replacement_from_the_softmax():
    """The first and the second of each pair, against their exact probabilities."""
    scores_V = np.array([-0.3, -2.0, -1.0, -4.0, -0.9, -np.inf], np.float32)
    rows = 20000
    shape = beams.Shape(1, 1, 2, draws=True)
    keys = jax.vmap(jax.random.key)(jnp.arange(rows))
    found = beams._candidates(shape, jnp.tile(scores_V, (rows, 1, 1)), keys)
    score_BC, parent_BC, token_BC = map(np.asarray, found)
    assert (score_BC[:, 0] > score_BC[:, 1]).all() and not parent_BC.any()
    p_V = np.exp(scores_V - np.logaddexp.reduce(scores_V)).astype(np.float64)
    pair_VV = p_V[:, None] * p_V / (1 - p_V[:, None])
    exact_VV = pair_VV + pair_VV.T
    for a in range(6):
        for b in range(a):
            seen = np.mean((token_BC == [a, b]).all(1) | (token_BC == [b, a]).all(1))
            assert abs(seen - exact_VV[a, b]) <= 4.5 * np.sqrt(exact_VV[a, b] / rows), (a, b)


def test_drawn_beams_follow_their_seeds():
    given = prompts(C, [6, 6])
    once, again, other = (texts(search(given, Beam(3, 2), WARM, seeds=seeds)) for seeds in ([1, 2], [1, 2], [3, 2]))
    assert once == again and once[0] != other[0] and once[1] == other[1]


def test_lengths_and_rules_do_not_compile_again():
    search(prompts(C, [16]), Beam(3))
    programs = beams.compiled(decoder().platform)
    before = [program._cache_size() for program in programs]
    for mode in (True, False, "never"):
        search(prompts(C, [4]), Beam(3, 2, length_penalty=0.3, early_stopping=mode), new=7)
    assert [program._cache_size() for program in programs] == before


def test_too_small_a_vocabulary_is_refused():
    stops = Sampling(greedy=True, stop_ids=tuple(range(C.vocab)))
    with pytest.raises(UserError, match="candidates"):
        search(prompts(C, [4]), Beam(2), stops)
