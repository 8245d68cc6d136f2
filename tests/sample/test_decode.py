"""Decoding equals the plain forward pass, row by row and position by position."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax.errors import NonFiniteError, UserError
from gpt_jax.model import layout
from gpt_jax.sample import calls, decode, rows
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.engine import turns
from gpt_jax.sample.engine.program import Sizes
from gpt_jax.sample.engine.weights import linear_groups
from gpt_jax.sample.knobs import sampling
from gpt_jax.sample.platform import CPU, bucket
from gpt_jax.sample.processors import Vocabulary
from tests.model.variants import NAMES, VARIANTS, config, logits, parameters

C = config(context=64)
plain = functools.partial(sampling, Vocabulary(C.vocab))
GREEDY = Sampling(greedy=True)
WARM = Sampling()
NEW = 12


def prompts(c, lengths, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(c.vocab, size=length).tolist() for length in lengths]


@functools.cache
def decoder(c=C):
    return Decoder(c, parameters(c))


def run(given, sampling=WARM, seeds=None, c=C, new=NEW):
    return decoder(c).generate(given, max_new_tokens=new, sampling=sampling, seeds=seeds or range(len(given)))


def assert_follows_the_model(c, params, given, got, atol):
    """Teacher forcing: what was written is fed to the uncached model, which must give each token its log-probability."""
    for prompt, new, logprobs in zip(given, got.tokens, got.logprobs, strict=True):
        whole = np.zeros((1, c.context), np.int32)  # one shape for all; what follows the text cannot change it
        whole[0, : len(prompt + new)] = prompt + new
        scores = np.asarray(jax.nn.log_softmax(logits(c, params, whole)[0]))
        scores = scores[len(prompt) - 1 : len(prompt + new) - 1]
        expected = scores[np.arange(len(new)), new]
        np.testing.assert_allclose(logprobs, expected, atol=atol)
        yield new, scores


@pytest.mark.every(4)
@pytest.mark.parametrize("kind, name", VARIANTS, ids=NAMES)
def test_every_variant_decodes_what_the_uncached_model_says(kind, name):
    c = config(context=64, **{kind: name})
    given = prompts(c, [5, 1, 17])
    for _ in assert_follows_the_model(c, parameters(c), given, run(given, c=c), 1e-4):
        pass


@pytest.mark.every(4)
@pytest.mark.parametrize(
    "changes, atol",
    [
        ({"tied": False, "bias": False}, 1e-4),
        ({"attention": ("full", "full"), "layers": 4}, 1e-4),
        ({"kv_heads": 4, "dropout": 0.3, "remat": "full"}, 1e-4),
        ({"dtype": "bfloat16"}, 0.1),
    ],
)
@pytest.mark.parametrize("scan", [False, True])
def test_layouts_and_options(changes, atol, scan):
    c = config(context=64, **changes)
    params = parameters(c)
    live = layout.stack(params, len(c.attentions)) if scan else params
    given = prompts(c, [7, 2])
    able = Decoder(config(context=64, scan=scan, **changes), live)
    got = able.generate(given, max_new_tokens=NEW, sampling=WARM, seeds=[4, 5])
    for _ in assert_follows_the_model(c, params, given, got, atol):
        pass


def test_greedy_takes_the_most_likely_token():
    given = prompts(C, [9, 3, 16])
    for new, scores in assert_follows_the_model(C, parameters(C), given, run(given, GREEDY), 1e-4):
        assert new == scores.argmax(-1).tolist()


def test_a_row_does_not_depend_on_its_neighbours():
    """Alone, among others, at another place, and next to prompts that need another padding."""
    given = prompts(C, [6, 1, 40, 13])
    together = run(given, seeds=[3, 1, 4, 1])
    for row in range(4):
        assert run([given[row]], seeds=[[3, 1, 4, 1][row]]).tokens[0] == together.tokens[row]
    turned = run(given[::-1], seeds=[1, 4, 1, 3])
    assert turned.tokens[::-1] == together.tokens


def test_seeds_matter_and_a_text_goes_on_as_the_longer_one():
    (prompt,) = prompts(C, [6])
    rows = run([prompt] * 3, seeds=[0, 1, 0], new=20).tokens
    assert rows[0] == rows[2] != rows[1]
    assert run([prompt + rows[0][:7]], seeds=[0], new=13).tokens[0] == rows[0][7:]


@pytest.mark.parametrize("sampling", [plain(top_k=1), plain(top_p=1e-6), plain(temperature=1e-6)])
def test_limits_of_the_settings_are_greedy(sampling):
    given = prompts(C, [9, 3])
    assert run(given, sampling).tokens == run(given, GREEDY).tokens


def test_rows_have_settings_of_their_own():
    (prompt,) = prompts(C, [6])
    rows = run([prompt] * 3, [GREEDY, plain(top_k=1), plain(temperature=2.0, top_p=0.5)]).tokens
    greedy = run([prompt], GREEDY).tokens[0]
    assert rows[0] == rows[1] == greedy != rows[2]


def test_sampled_tokens_follow_the_models_distribution():
    """The first new token of many rows, against the exact probabilities (the draw itself: test_processors)."""
    (prompt,) = prompts(C, [4])
    rows = 400
    first = np.array([row[0] for row in run([prompt] * rows, new=1, seeds=range(rows)).tokens])
    exact = np.asarray(jax.nn.softmax(logits(C, parameters(C), np.array([prompt]))[0, -1]), np.float64)
    counts = np.bincount(first, minlength=C.vocab)
    z = (counts - rows * exact) / np.sqrt(rows * exact * (1 - exact) + 1e-9)
    assert np.abs(z[exact * rows > 5]).max() < 4.5 and np.sum(exact * rows > 5) >= 3


class Seeds(list):
    """Of which a few are looked at, and never all."""

    def __iter__(self):
        raise AssertionError("all seeds were looked at")


def test_few_of_many_rows_cost_what_they_are():
    warm, cool = plain(temperature=2.0, top_k=3), plain(temperature=0.5)
    kinds = [warm, cool, warm, warm]
    _, knobs = calls.program_of(C, CPU, kinds)
    assert {len(values_U) for own in knobs for values_U in own.values()} == {2}
    asked = rows.Asked([[1], [2, 3], [4], [5]], [NEW] * 4, kinds, Seeds([7, 8, 9, 10]))
    tokens_BP, given = asked.rows([3, 1], knobs, 4, 16)
    assert given["seeds_B"].tolist() == [10, 8, 0, 0] and tokens_BP[:, -2:].tolist() == [[0, 5], [2, 3], [0, 0], [0, 0]]
    temperature, top_k = given["knobs"][:2]
    assert temperature["t_B"].tolist() == [2.0, 0.5, 0, 0] and top_k["on_B"].tolist() == [True, False, False, False]


def test_stop_id_ends_a_row_and_is_kept():
    given = prompts(C, [9, 3, 16])
    free = run(given, GREEDY)
    stop = free.tokens[0][4]
    got = run(given, Sampling(greedy=True, stop_ids=(stop,)))
    for row, whole in enumerate(free.tokens):
        end = whole.index(stop) + 1 if stop in whole else NEW
        assert got.tokens[row] == whole[:end] and len(got.logprobs[row]) == end


def test_a_stop_id_may_come_first_and_in_the_prompt():
    (prompt,) = prompts(C, [9])
    first = run([prompt], GREEDY).tokens[0][0]
    assert run([prompt], Sampling(greedy=True, stop_ids=(first,))).tokens == [[first]]
    others = set(range(C.vocab)) - set(run([prompt], GREEDY).tokens[0])
    inside = next(t for t in prompt if t in others)
    assert len(run([prompt], Sampling(greedy=True, stop_ids=(inside,))).tokens[0]) == NEW


@pytest.mark.parametrize("every", [1, 5, 100])
def test_streamed_parts_join_to_the_whole(every):
    given = prompts(C, [9, 3])
    whole = run(given)
    parts = list(decoder().stream(given, max_new_tokens=NEW, sampling=WARM, seeds=[0, 1], every=every))
    assert len(parts) == -(-NEW // every)
    assert [sum((part.tokens[row] for part in parts), []) for row in (0, 1)] == whole.tokens
    assert [sum((part.logprobs[row] for part in parts), []) for row in (0, 1)] == whole.logprobs


def test_what_sweeps_vary_does_not_compile_again():
    run(prompts(C, [16]), WARM)
    programs = turns.compiled(CPU, False)
    before = [program._cache_size() for program in programs]
    for how in (GREEDY, plain(temperature=0.3, top_k=7, top_p=0.2), plain(temperature=2.0, top_p=0.9)):
        for length, new in ((16, NEW), (2, 3), (11, 16)):
            run(prompts(C, [length]), how, seeds=[length], new=new)
    Decoder(C, parameters(C)).generate(prompts(C, [5]), max_new_tokens=NEW, sampling=WARM, seeds=[0])
    assert [program._cache_size() for program in programs] == before


def test_the_cache_is_donated_and_written_in_place():
    """The compiled loop aliases the cache and copies no buffer of its size, for one row and for several."""
    c = config(width=32, head_dim=8, kv_heads=4, context=512)
    sizes = Sizes(128, 384)
    for batch in (1, 3):
        program, knobs = calls.program_of(c, CPU, [WARM] * batch)
        _, advance, _ = turns.compiled(CPU, batch > 1)
        weights = Decoder(c, parameters(c)).weights
        asked = rows.Asked([[1]] * batch, [NEW] * batch, [WARM] * batch, range(batch))
        given = asked.rows(range(batch), knobs, batch, sizes.width)
        live, _ = jax.eval_shape(functools.partial(turns._prefill, program, sizes=sizes), weights, *given)
        compiled = advance.lower(program, weights, live, 3, 0).compile()
        cache = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(live["cache"]))
        memory = compiled.memory_analysis()
        assert memory.alias_size_in_bytes >= cache
        assert memory.temp_size_in_bytes < cache / 4, f"{memory.temp_size_in_bytes} bytes beside a cache of {cache}"


def test_buckets_are_few_and_close():
    sizes = {bucket(n) for n in range(1, 1025)}
    assert len(sizes) <= 13
    assert all(n <= bucket(n) <= max(16, 1.5 * n) for n in range(1, 1025))


def test_a_prompt_and_new_tokens_may_fill_the_context_exactly():
    given = prompts(C, [C.context - 5])
    for _ in assert_follows_the_model(C, parameters(C), given, run(given, new=5), 1e-4):
        pass
    assert len(run(given, new=5).tokens[0]) == 5


@pytest.mark.parametrize(
    "given, new, words",
    [
        ([[1] * 60], 5, ("60", "5", "64", "--sample.max_new_tokens=4")),
        ([[1], [1] * 64], 1, ("prompt 2 of 2", "64", "shorten")),
        ([[1], []], 1, ("no token", "prompt 2 of 2")),
        ([[0, 37]], 1, ("37", "0 to 36")),
        ([[-1]], 1, ("-1", "0 to 36")),
    ],
)
def test_what_cannot_be_continued_is_refused(given, new, words):
    with pytest.raises(UserError) as error:
        run(given, new=new)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("sampling", [GREEDY, plain(temperature=0.5, top_k=5, top_p=0.9)])
def test_scores_that_are_not_finite_are_not_blamed_on_processors(sampling):
    broken = decoder().with_params(jax.tree.map(lambda leaf: leaf * np.nan, parameters(C)))
    asked = dict(max_new_tokens=4, sampling=sampling, seeds=[0, 1])
    with pytest.raises(NonFiniteError, match="not finite") as error:
        broken.generate([[1, 2], [3]], **asked)
    assert error.value.exit_code == 76 and error.value.where == "prompt 1 of 2, after 0 new ones"
    with pytest.raises(NonFiniteError):
        list(broken.stream([[1, 2], [3]], **asked))


def test_nothing_to_do():
    assert run([], seeds=[]) == decode.Generated([], [])
    assert run(prompts(C, [3]), new=0) == decode.Generated([[]], [[]])


def test_prepared_weights_are_in_the_models_dtype():
    c = config(dtype="bfloat16", tied=False)
    weights = Decoder(c, parameters(c)).weights
    for path, leaf in jax.tree_util.tree_flatten_with_path(weights)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        matrix = name.endswith("/w") and "position" not in name
        assert not leaf.size or leaf.dtype == (jnp.bfloat16 if matrix else jnp.float32), name


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, ["attention/q attention/k attention/v", "attention/out", "mlp/up", "mlp/down"]),
        ({"mlp": "swiglu", "block": "parallel"}, ["attention/q attention/k attention/v mlp/gate mlp/up"]),
        ({"attention": "full(value_residual=True, gate=True)"}, ["attention/q attention/k", "attention/gate"]),
        ({"mlp": "moe(experts=2)"}, ["mlp/router"]),
    ],
)
def test_layers_that_are_given_the_same_array_share_a_product(changes, expected):
    """In the first block: q, k and v; all that read one norm of a parallel block; not what runs within a loop of its own."""
    groups = [" ".join("/".join(layer.path[2:]) for layer in group if layer.path[1] == "0") for group in
              linear_groups(config(**changes))]  # fmt: skip
    assert set(expected) <= set(groups), groups


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_rows_that_have_ended_are_replaced(rows):
    """A row at a time, in any order of ends: every text is that of its prompt alone."""
    given = prompts(C, [9, 3, 16, 1, 30, 7, 2])
    asked = dict(max_new_tokens=[5, 12, 0, 9, 1, 12, 3], sampling=WARM, seeds=range(7))
    got = decoder().generate(given, rows=rows, **asked)
    together = decoder().generate(given, **asked)
    assert got.tokens == together.tokens
    np.testing.assert_allclose(sum(got.logprobs, []), sum(together.logprobs, []), atol=1e-4)
    assert [len(row) for row in got.tokens] == asked["max_new_tokens"]


def test_a_row_has_a_length_of_its_own():
    given = prompts(C, [9, 3, 16])
    free = run(given)
    got = run(given, new=[5, 0, NEW])
    assert got.tokens == [free.tokens[0][:5], [], free.tokens[2]]
    assert [len(row) for row in got.logprobs] == [5, 0, NEW]
