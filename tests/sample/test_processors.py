"""Every processor against transformers and plain definitions, and the contract of all that are registered."""

import contextlib
import dataclasses
import inspect
from collections import Counter

import numpy as np
import pytest

from docs import processors as page
from gpt_jax import registry
from gpt_jax.data.tokenizers.chars import Chars
from gpt_jax.errors import UserError
from gpt_jax.sample.decode import Sampling
from gpt_jax.sample.engine import chain
from gpt_jax.sample.knobs import KIND, KNOBS, ORDERS, ordered, sampling
from gpt_jax.sample.platform import ACCELERATOR
from gpt_jax.sample.processors import Processor, Vocabulary
from tests import documented
from tests.sample import every_processor
from tests.sample.definitions import Case, expected, kept
from tests.sample.every_processor import NAMES, cases, decisive, difference, process, run, stack, step_of

VOCAB = 50
CASES = 20  # of each processor; python -m tests.sample.every_processor compares 300
WARPS = {
    "temperature", "top_k", "top_p", "min_p", "typical", "epsilon", "eta", "top_n_sigma", "mirostat", "xtc"
}  # fmt: skip


@pytest.fixture(scope="module")
def given() -> list[tuple[str, Case]]:
    random = np.random.default_rng(7)
    single = [(name, one) for name in NAMES for one in cases(random, VOCAB, [name], CASES, Counter())]
    return single + [("stacks", cases(random, VOCAB, stack(random), 1, Counter())[0]) for _ in range(CASES)]


@pytest.fixture(scope="module")
def got_BV(given) -> np.ndarray:
    return run([one for _, one in given])


@pytest.mark.parametrize("name", [*NAMES, "stacks"])
def test_scores_are_those_of_transformers_or_of_the_definition(given, got_BV, name):
    changed = 0
    for row, (of, one) in enumerate(given):
        if of == name:
            same, apart = difference(one, got_BV[row])
            assert same and apart <= 1e-6, one
            changed += not np.array_equal(got_BV[row], one.scores_V)
    assert changed >= 3, "these cases do not tell"


def test_a_row_does_not_depend_on_its_neighbours(given, got_BV):
    """Every second row has another text, other scores and processors: the rest stays the same, bit for bit."""
    random = np.random.default_rng(8)
    others = [every_processor.case(random, VOCAB, stack(random)) for _ in given]
    mixed = [one if row % 2 else other for row, ((_, one), other) in enumerate(zip(given, others, strict=True))]
    np.testing.assert_array_equal(run(mixed)[1::2], got_BV[1::2])


def test_without_loops_they_are_the_same(given, got_BV):
    """As accelerators compile them."""
    other_BV = run([one for _, one in given], ACCELERATOR.bits)
    assert (kept(other_BV) == kept(got_BV)).all()
    np.testing.assert_allclose(other_BV, got_BV, rtol=1e-6)


def test_rows_together_are_rows_alone(given, got_BV):
    for row in range(0, len(given), CASES // 2):
        same_V = run([given[row][1]])[0]
        assert (kept(same_V) == kept(got_BV[row])).all()
        np.testing.assert_allclose(same_V, got_BV[row], rtol=1e-6)


ALPHABET = "".join(sorted("abcdefghijklmnopqrstuvwxyz .,:;!?\n*0"))
VOCABULARY = Vocabulary(37, Chars(ALPHABET, separated=True), (36,))
EXAMPLES = [call for name in registry.names(KIND) for call in registry.examples(KIND, name)]


def registered(neighbour: int) -> np.ndarray:
    """Scores after each example of what is registered, in every second row, and of rows between them with other texts and
    scores, which are around ``neighbour``."""
    random = np.random.default_rng(neighbour + 5000)
    own = every_processor.case(np.random.default_rng(0), 37, ())
    others = [every_processor.case(random, 37, ()) for _ in EXAMPLES]
    others = [dataclasses.replace(other, scores_V=other.scores_V + neighbour) for other in others]
    built = [registry.build(KIND, call, VOCABULARY) for call in EXAMPLES]
    links, knobs = chain.join([chain_of for processor in built for chain_of in ((processor,), ())], built)
    both = [one for other in others for one in (own, other)]
    before_BV = np.stack([one.scores_V for one in both])
    after_BV = np.asarray(process(links, knobs, before_BV, step_of(both)))
    assert after_BV.dtype == np.float32 and not np.isnan(after_BV).any()
    assert not kept(after_BV)[~kept(before_BV)].any(), "what was removed has come back"
    np.testing.assert_array_equal(after_BV[1::2], before_BV[1::2])
    return after_BV[::2]


def test_no_registered_processor_reads_another_row():
    np.testing.assert_array_equal(registered(-1000), registered(1000))


def test_the_page_lists_every_processor():
    assert page.written() == page.table(documented.names(KIND)), "python -m docs.processors writes it anew"


@pytest.mark.parametrize("name", registry.names(KIND))
def test_a_processor_without_its_arguments_is_built_or_names_them(name):
    required = [
        p.name for p in inspect.signature(registry.lookup(KIND, name)).parameters.values() if p.default is p.empty
    ]
    if required[1:]:  # beside the vocabulary
        with pytest.raises(UserError, match=f"'{name}' cannot be built with.*{required[1]}") as error:
            sampling(Vocabulary(16), processors=(name,))
        assert error.value.where == "config.sample.processors"
    else:
        with contextlib.suppress(UserError):  # of a vocabulary without texts
            sampling(Vocabulary(16), processors=(name,))


@pytest.mark.parametrize("name", registry.names(KIND))
def test_a_registered_processor_has_an_example_and_a_source(name):
    assert registry.typical(KIND, name) and page.source(name)


def test_orders_name_the_same_processors():
    """One that they do not name has the place of "…", in front of the temperature."""
    names = [sorted(order) for order in ORDERS.values()]
    assert names[0] == names[1] == names[2] and len(set(names[0])) == len(names[0]) and "…" in names[0]
    assert {*NAMES, *(knob.processor for knob in KNOBS.values())} <= set(names[0])
    for order, places in ORDERS.items():
        built = [(name, Processor(None, {"name": name})) for name in (*reversed(places), "mine") if name != "…"]
        found = [processor.knobs["name"] for processor in ordered(built, order)]
        assert found == ["mine" if name == "…" else name for name in places]


def test_the_order_decides_what_is_kept():
    """Of a temperature, a nucleus and min_p: vLLM has min_p before the nucleus, llama.cpp the temperature last."""
    random, vocabulary = np.random.default_rng(2), Vocabulary(VOCAB)
    calls = ("temperature(t=2.5)", "top_p(p=0.7)", "min_p(p=0.2)")
    in_order = {
        "huggingface": calls,
        "vllm": (calls[0], calls[2], calls[1]),
        "llama_cpp": (calls[1], calls[2], calls[0]),
    }
    knobs = dict(temperature=2.5, top_p=0.7, min_p=0.2)
    rows = {name: sampling(vocabulary, order=name, **knobs).applied for name in in_order}
    differ = 0
    for _ in range(20):
        plain = dataclasses.replace(every_processor.case(random, VOCAB, ()), calls=calls)
        ones = [dataclasses.replace(plain, calls=given) for given in in_order.values()]
        if all(map(decisive, ones)):
            links, knobs = chain.join(list(rows.values()))
            got_BV = np.asarray(process(links, knobs, np.stack([plain.scores_V] * 3), step_of(ones)))
            wanted = [kept(expected(one)) for one in ones]
            np.testing.assert_array_equal(kept(got_BV), wanted)
            differ += len({tuple(mask) for mask in wanted}) == 3
    assert differ >= 3, "these cases do not tell"


@pytest.mark.parametrize("name", NAMES)
def test_greedy_leaves_out_what_only_shapes_the_draw(name):
    built = registry.build(KIND, registry.examples(KIND, name)[0], VOCABULARY)
    assert bool(Sampling((built,), greedy=True).applied) == (name not in WARPS)
    assert Sampling((built,)).applied == (built,)


def test_two_values_are_asked_for_where_two_are_needed():
    built = sampling(VOCABULARY, exponential_decay_length_penalty=(5, 1.1)).processors[0]
    assert built.knobs["start_B"] == 5 and np.isclose(np.exp(built.knobs["log_B"]), 1.1)
    for value in ((5,), (5, 1.1, 2), (5.5, 1.1), (5, 0.0)):
        with pytest.raises(UserError):
            sampling(VOCABULARY, exponential_decay_length_penalty=value)


# Edge cases that random ones seldom hit.


def scores_after(call, scores_BV, text=(1,), prompt=1, stop_ids=(0,)):
    scores_BV = np.asarray(scores_BV, np.float32)
    rows = [Case(row, text, prompt, stop_ids, (call,)) for row in scores_BV]
    links, knobs = chain.join([[registry.build(KIND, call, Vocabulary(scores_BV.shape[1]))]] * len(rows))
    return np.asarray(process(links, knobs, scores_BV, step_of(rows)))


def test_top_k_keeps_ties_of_both_signs_and_zeros():
    scores = [[2, 1, 1, 1, -3], [-1, -1, -2, -1, -5], [0.0, -0.0, 1, -1, -1]]
    wanted = [[True] * 4 + [False], [True, True, False, True, False], [True, True, True, False, False]]
    assert kept(scores_after("top_k(k=2)", scores)).tolist() == wanted


def test_top_p_drops_equals_by_position():
    """Eight tokens of 1/8 each: p = 0.4 keeps the last four, as 1 - p removes the first four by position."""
    assert kept(scores_after("top_p(p=0.4)", np.zeros((1, 8)))).tolist() == [[False] * 4 + [True] * 4]


@pytest.mark.parametrize(
    "call",
    [
        "temperature(t=1e-30)",
        "temperature(t=1e-45)",
        "repetition(penalty=1e-40)",
        "repetition(penalty=1e38)",
        "presence(penalty=3e38)",
        "frequency(penalty=-3e38)",
        "exponential_decay(start=0, factor=1e38)",
        "dry(multiplier=1e38, base=1e38)",
    ],
)
def test_extreme_settings_leave_no_nan_and_a_token(call):
    scores = np.array([[1e3, -1e3, 0.5, 0.0, -np.inf]], np.float32)
    got_V = scores_after(call, scores, text=(1, 0, 3, 1, 0, 3, 1, 0), stop_ids=(0, 3))[0]
    assert not np.isnan(got_V).any() and np.isneginf(got_V[4]) and np.isfinite(got_V.max()), got_V
    assert call.startswith("temperature") or np.isfinite(got_V[:4]).all(), got_V


def test_a_row_of_which_nothing_is_left_stays_so():
    rows = [[registry.build(KIND, registry.examples(KIND, name)[0], VOCABULARY)] for name in NAMES]
    links, knobs = chain.join(rows)
    nothing_BV = np.full((len(rows), VOCABULARY.size), -np.inf, np.float32)
    step = step_of([Case(scores_V, (1, 2, 1, 2), 1, (0,), ()) for scores_V in nothing_BV])
    np.testing.assert_array_equal(process(links, knobs, nothing_BV, step), nothing_BV)


def test_xtc_strikes_as_often_as_it_says():
    scores_V = every_processor.sampler(()).scores_V
    kept_BV = kept(scores_after("xtc(probability=0.25, threshold=0.01)", [scores_V] * 2000))
    assert abs(1 - kept_BV.all(1).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000)
    assert len(np.unique(kept_BV, axis=0)) == 2


def test_breakers_are_texts_or_ids():
    def ids(**values):
        return sorted(registry.lookup(KIND, "dry")(VOCABULARY, multiplier=1.0, **values).knobs["breakers_BI"].tolist())

    assert ids(breakers=("b", 3)) == sorted([3, ALPHABET.index("b")]) and ids(breakers=()) == []
    assert ids() == [ALPHABET.index(breaker) for breaker in "\n*:"]
    for wrong in (("ab",), (37,), ((1, 2),), (True,)):
        with pytest.raises(UserError, match="dry"):
            ids(breakers=wrong)
    assert registry.lookup(KIND, "dry")(Vocabulary(9), multiplier=1.0).knobs["breakers_BI"].tolist() == []
    with pytest.raises(UserError, match="tokenizer"):
        registry.lookup(KIND, "dry")(Vocabulary(9), multiplier=1.0, breakers=("a",))
