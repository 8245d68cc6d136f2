"""Text with a watermark is found, text without is not, and what repeats counts once."""

import functools

import numpy as np
import pytest
from scipy import stats

from gpt_jax.errors import UserError
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.knobs import sampling
from gpt_jax.sample.platform import CPU
from gpt_jax.sample.processors import Vocabulary
from gpt_jax.sample.watermark import begin, detect, mixed, threshold
from tests.model.variants import config, parameters
from tests.sample.test_platform import FOUR, lowered, waits

C = config(vocab=300, context=128)
RANDOM = np.random.default_rng(0)
SETTINGS = [dict(), dict(fraction=0.5, context=3, seed=2**40 + 7)]


@functools.cache
def texts(platform):
    """Two rows with each of the settings, and two without; all drawn."""
    calls = ["watermark(bias=4.0)", "watermark(fraction=0.5, bias=4.0, context=3, seed=1099511627783)"]
    given = Vocabulary(C.vocab)
    rows = [sampling(given, processors=(call,)) for call in calls for _ in range(2)] + [sampling(given)] * 2
    asked = dict(max_new_tokens=100, sampling=rows, seeds=range(6))
    return Decoder(C, parameters(C), platform).generate([[5, 6, 7]] * 6, **asked).tokens


@pytest.mark.parametrize("platform", [CPU, FOUR], ids=["cpu", "accelerator"])
def test_a_watermark_is_found_and_none_is_not(platform):
    for number, settings in enumerate(SETTINGS):
        for row, ids in enumerate(texts(platform)):
            found = detect(ids, **settings)
            marked = row // 2 == number
            assert (found.z > 4 and found.p_value < 1e-4) if marked else (abs(found.z) < 3 and found.p_value > 1e-3)


def test_the_numbers_are_those_of_the_paper():
    ids = texts(CPU)[0]
    found = detect(ids, fraction=0.25)
    firsts = {ids[i]: ids[i + 1] for i in reversed(range(len(ids) - 1))}
    green = sum(int(mixed(mixed(begin(u(0)), u(c)), u(t))[0] < threshold(0.25)) for c, t in firsts.items())
    assert (found.tokens, found.green) == (len(firsts), green)
    assert found.z == pytest.approx((green - 0.25 * len(firsts)) / np.sqrt(len(firsts) * 0.25 * 0.75))
    assert found.p_value == pytest.approx(stats.binomtest(green, len(firsts), 0.25, "greater").pvalue)


def u(number):
    return np.array([number], np.uint32)


def test_repetitions_do_not_count():
    for ids in texts(CPU):
        once, often = detect(ids + ids[:1]), detect(ids * 20)
        assert (often.tokens, often.green) == (once.tokens, once.green)
    green = next(i for i in range(300) if mixed(mixed(begin(u(0)), u(9)), u(i))[0] < threshold(0.25))
    assert abs(detect([9, green] * 200).z) < 3 < 20 < 200 * 0.75 / np.sqrt(200 * 0.25 * 0.75)


def test_hashes_are_even_and_independent():
    """Over tokens and over contexts a share ``fraction`` is green, and seeds have nothing to do with each other."""
    tokens, contexts = np.arange(2000, dtype=np.uint32)[None], np.arange(200, dtype=np.uint32)[:, None]
    lists = [mixed(mixed(begin(u(seed)), contexts), tokens) < threshold(0.25) for seed in (0, 1)]
    for green in lists:
        for axis in (0, 1):
            shares, count = green.mean(axis), green.shape[axis]
            z = (shares - 0.25) / np.sqrt(0.25 * 0.75 / count)
            assert abs(z.mean()) < 0.1 and 0.9 < z.std() < 1.1
    both = (lists[0] & lists[1]).mean()
    assert abs(both - 1 / 16) < 0.001


def test_unmarked_texts_have_the_p_values_of_chance():
    found = [detect(RANDOM.integers(300, size=200), fraction=0.5).z for _ in range(300)]
    assert abs(np.mean(found)) < 0.2 and 0.85 < np.std(found) < 1.15


def test_what_cannot_be_detected_is_refused():
    with pytest.raises(UserError, match="3 tokens have none with 3 before it"):
        detect([1, 2, 3], context=3)
    with pytest.raises(UserError, match="fraction = 1.5"):
        detect([1, 2, 3], fraction=1.5)
    with pytest.raises(UserError, match="fraction"):
        sampling(Vocabulary(9), processors=("watermark(fraction=1.0)",))


def test_nothing_waits_for_the_host():
    assert not waits(lowered(FOUR, sampling(Vocabulary(37), processors=("watermark(context=2)",))))
