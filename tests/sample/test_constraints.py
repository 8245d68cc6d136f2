"""Words that are banned, allowed, forced or made likelier: as transformers does it, and as the lists say."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.data.tokenizers.bytes import Bytes
from gpt_jax.data.tokenizers.chars import Chars
from gpt_jax.errors import UserError
from gpt_jax.sample.constraints import words
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.knobs import sampling
from gpt_jax.sample.platform import CPU
from gpt_jax.sample.processors import Step, Vocabulary
from tests.model.variants import config, parameters
from tests.sample import every_constraint
from tests.sample.test_platform import FOUR, lowered, waits
from tests.trained import subwords

C = config(vocab=257, context=64)
BYTES = Vocabulary(257, Bytes(), (256,))


@functools.cache
def decoder(platform=CPU):
    return Decoder(C, parameters(C), platform)


@pytest.mark.parametrize("name", every_constraint.PEERS)
def test_scores_are_those_of_transformers(name):
    pytest.importorskip("transformers")
    every_constraint.check_peer(name, 40)


def test_allowed_words():
    every_constraint.check_allowed(20)


def test_forced_words():
    every_constraint.check_forced(60)


def test_a_text_stands_for_its_form_after_a_space_as_well():
    tokenizer = subwords("the cat sat on the mat. the hat of the cat. ", 300)
    given = Vocabulary(300, tokenizer)
    found = words.forms(given, "the", "here")
    assert [tokenizer.decode(list(ids)) for ids in found] == ["the", " the"] and len(found[1]) == 1
    assert words.forms(given, found[1], "here") == [found[1]]  # ids mean themselves
    assert words.forms(BYTES, "the", "here") == [tuple(b"the")]  # a space before them adds nothing
    assert words.forms(Vocabulary(3, Chars("eht", False)), "the", "here") == [(2, 1, 0)]  # nor can one be written


def test_a_bias_of_its_own_wins_over_that_of_the_other_form():
    tokenizer = subwords("the cat sat on the mat. the hat of the cat. ", 300)
    (processor,) = sampling(
        Vocabulary(300, tokenizer), logit_bias=((" the", -1.0), ("the", 2.0), ("cat", 3.0))
    ).processors
    spaced = tokenizer.encode(" the").tolist()
    at = processor.knobs["last_BW"].tolist().index(spaced[0])
    assert len(spaced) == 1 and processor.knobs["bias_BW"][at] == -1.0


@pytest.mark.parametrize("platform", [CPU, FOUR], ids=["cpu", "accelerator"])
def test_what_is_written_keeps_to_the_lists(platform):
    """Rows with lists of their own, of which each would fail without one."""
    pairs = [(i, j) for i in range(64, 128) for j in range(64, 128)][::5]
    lists = [
        dict(bad_words=(*range(64), *range(128, 256), *pairs), suppress_tokens=(256,)),
        dict(allowed_words=("xyz",)),
        dict(allowed_words=("heyloxt",), processors=("forced_words(words=['hey', 'lot', 'x'])",)),
        dict(processors=("forced_words(words=['hey', 'lot', 'x'])",)),
    ]
    found = decoder(platform).generate(
        [[97, 98]] * 12, max_new_tokens=[*[20] * 9, *[7] * 3], seeds=range(12),
        sampling=[sampling(BYTES, **knobs) for knobs in lists for _ in range(3)],
    ).tokens  # fmt: skip
    for row in found[:3]:
        assert (
            len(row) == 20
            and set(row) <= set(range(64, 128))
            and not set(zip([98, *row], row, strict=False)) & set(pairs)
        )
    for row in found[3:6]:
        assert set(row) <= {*b"xyz", 256}
    for row in found[6:]:
        assert all(word in bytes(i for i in row if i < 256) for word in (b"hey", b"lot", b"x")) and 256 not in row[:-1]
    assert all(sorted(row) == sorted(b"heylotx") for row in found[9:])  # there is room for nothing else


CONTRADICTIONS = {
    "forced holds bad": (dict(bad_words=("el",), processors=("forced_words(words=['hello'])",)), "'el' of bad_words"),
    "forced holds suppressed": (
        dict(suppress_tokens=("o",), processors=("forced_words(words=['x', 'hello'])",)),
        "'hello' of forced_words holds 'o' of suppress",
    ),
    "forced not allowed": (
        dict(allowed_words=("hel",), processors=("forced_words(words=['hello'])",)),
        "'hello' of forced_words needs 'o', which is not in allowed_words",
    ),
    "bad and the only allowed": (dict(bad_words=("a", "b"), allowed_words=("ab",)), "'a' is in bad_words too"),
    "two numbers": (dict(logit_bias=(("a", 1), ("a", 2))), "two numbers: 1 and 2"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_name_both(name):
    knobs, said = CONTRADICTIONS[name]
    with pytest.raises(UserError, match=said):
        sampling(BYTES, **knobs)


def test_what_only_looks_like_one_is_taken():
    sampling(BYTES, bad_words=("he", 256), allowed_words=("helo",), processors=("forced_words(words=['lo', 'eh'])",))
    tokenizer = subwords("the cat sat on the mat. the hat of the cat. ", 300)
    sampling(
        Vocabulary(300, tokenizer),
        suppress_tokens=tokenizer.encode(" the").tolist(),
        processors=("forced_words(words=['the'])",),
    )


@pytest.mark.parametrize(
    "knobs, said",
    [
        (dict(bad_words=(300,)), "300 of 300 is no token id"),
        (dict(bad_words=(1.5,)), "1.5 is no word"),
        (dict(bad_words=("",)), "holds no token"),
        (dict(bad_words="ab"), "that is a str"),
        (dict(suppress_tokens=("ab",)), "2 tokens"),
        (dict(logit_bias=("ab",)), "'ab' is no word with a number"),
        (dict(logit_bias=(("a", float("inf")),)), "no word with a number"),
        (dict(processors=("allowed_words(words=[])",)), "there is no word"),
    ],
)
def test_bad_words_lists_are_refused(knobs, said):
    with pytest.raises(UserError, match=said):
        sampling(BYTES, **knobs)


def test_a_row_without_a_token_left_is_named():
    """Beside another that goes on; at once, after some tokens, and in a stream."""
    stuck = sampling(BYTES, allowed_words=("a",), bad_words=("aaa",))
    given = dict(max_new_tokens=8, sampling=[sampling(BYTES), stuck], seeds=[0, 1])
    stuck_at_once = dict(
        given,
        sampling=[sampling(BYTES), sampling(BYTES, processors=("forced_words(words=['too long'])",))],
        max_new_tokens=7,
    )
    no_stop = dict(given, sampling=[sampling(BYTES), _endless(stuck)])
    for asked, said in (
        (no_stop, "prompt 2 of 2 after 1 new ones: bad_words, allowed_words removed all of them"),
        (stuck_at_once, "prompt 2 of 2 after 0 new ones: forced_words removed all"),
    ):
        with pytest.raises(UserError, match=said):
            decoder().generate([[97, 98], [97]], **asked)
        with pytest.raises(UserError, match=said):
            list(decoder().stream([[97, 98], [97]], **asked, every=2))
    assert decoder().generate([[97, 98], [97]], **given).tokens[1] == [97, 256]


def _endless(one):
    return type(one)(one.processors, one.greedy, ())


@pytest.mark.parametrize("name", ["bias", "bad_words", "allowed_words", "suppress", "forced_words"])
def test_nothing_waits_for_the_host(name):
    (call,) = registry.examples("sample.processors", name)
    assert not waits(lowered(FOUR, sampling(Vocabulary(37), processors=(call,))))


def test_recent_tokens():
    step = Step(jnp.array([[1, 2, 3, 9], [4, 9, 9, 9]]), jnp.array([3, 1]), jnp.array([1, 1]), *[jnp.zeros(2)] * 3)
    assert np.asarray(words.recent(step, 3)).tolist() == [[3, 2, 1], [4, -1, -1]]
    assert np.asarray(words.recent(step, 3, step.prompt_B)).tolist() == [[3, 2, -1], [-1, -1, -1]]
