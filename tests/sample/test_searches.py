"""Best of n, exact and contrastive search against their definitions, and which knobs ask for what."""

import itertools
import json
from dataclasses import replace

import jax
import numpy as np
import pytest

import gpt_jax
from gpt_jax import configs
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.errors import NonFiniteError, UserError
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.outputs.requests import requests
from gpt_jax.sample.outputs.writing import written
from gpt_jax.sample.platform import ACCELERATOR
from gpt_jax.sample.processors import Processor
from gpt_jax.sample.prompts import Prompt
from gpt_jax.sample.searches import chosen
from gpt_jax.sample.searches.beam import Beam
from gpt_jax.sample.searches.best_of import BestOf, seeds_of
from gpt_jax.sample.searches.contrastive import Contrastive
from gpt_jax.sample.searches.exact import Exact
from gpt_jax.sample.text import sample_command
from tests.model.variants import config, logits, model, parameters
from tests.sample.test_decode import GREEDY, NEW, WARM, C, decoder, prompts, run
from tests.sample.test_outputs import SAMPLE as LETTERS
from tests.sample.test_outputs import first_stop
from tests.sample.test_outputs import run as written_letters
from tests.sample.test_text import MODEL, SAMPLE, Bytes, command

SMALL = config(vocab=5, context=16)
DEFAULTS = Config.from_dict(base.get_config().to_dict() | {"model": vars(C)}).sample


def asked(given, sampling, able=None, new=NEW):
    return (able or decoder()).asked(given, new, sampling, range(len(given)))


def test_the_best_of_several_is_kept():
    given = prompts(C, [6, 2])
    drawn = run([given[0]] * 4 + [given[1]] * 4, seeds=[*seeds_of(0, 4), *seeds_of(1, 4)])
    best = BestOf(4, 2).run(decoder(), asked(given, WARM))
    in_turns = BestOf(4, 2, rows=3).run(decoder(), asked(given, WARM))
    assert [[text.tokens for text in row] for row in in_turns] == [[text.tokens for text in row] for row in best]
    alike = BestOf(4, 2, rank=lambda number, text: 0.0, rows=3).run(decoder(), asked(given, WARM))
    assert [text.tokens for row in alike for text in row] == [drawn.tokens[i] for i in (0, 1, 4, 5)]
    by_first = BestOf(4, rank=lambda number, text: -text.tokens[0] * (-1) ** number).run(decoder(), asked(given, WARM))
    for number, pick in ((0, min), (1, max)):
        own = slice(4 * number, 4 * number + 4)
        means = sorted(map(np.mean, drawn.logprobs[own]), reverse=True)
        np.testing.assert_allclose([text.score for text in best[number]], means[:2], rtol=1e-6)
        assert all(text.tokens in drawn.tokens[own] for text in best[number])
        assert by_first[number][0].tokens[0] == pick(tokens[0] for tokens in drawn.tokens[own])


def test_seeds_of_several_texts_begin_alike_and_differ():
    assert seeds_of(7, 3) == seeds_of(7, 5)[:3] and len({*seeds_of(7, 50), *seeds_of(8, 50)}) == 100


@pytest.mark.parametrize("length, stops", [(3, ()), (4, (2,)), (4, (0, 4))])
def test_an_exact_search_finds_what_trying_all_finds(length, stops):
    able, sampling = Decoder(SMALL, parameters(SMALL)), Sampling(greedy=True, stop_ids=stops)
    prompt = [1, 3]
    every = np.array([[*prompt, *text] for text in itertools.product(range(SMALL.vocab), repeat=length)])
    scores = np.asarray(logits(SMALL, parameters(SMALL), every), np.float64)
    scores = scores[:, :-1]
    each = np.take_along_axis(scores - np.logaddexp.reduce(scores, -1, keepdims=True), every[:, 1:, None], 2)
    sums = {}
    for text, row in zip(every[:, 2:].tolist(), each[:, 1:, 0], strict=True):
        end = next((at for at, token in enumerate(text, start=1) if token in stops), length)
        sums[tuple(text[:end])] = row[:end].sum()
    best = max(sums, key=sums.get)
    text, certificate = Exact(10**6).best(able, asked([prompt], sampling, able, length), 0)
    assert tuple(text.tokens) == best and abs(text.score - sums[best]) < 1e-4
    assert certificate.proved and certificate.bound == certificate.best and 0 < certificate.nodes < len(sums)
    np.testing.assert_allclose(text.score, sum(text.logprobs), atol=1e-4)

    one, cut = Exact(1).best(able, asked([prompt], sampling, able, length), 0)
    assert cut.nodes == 1 and cut.bound >= sums[best] - 1e-4 and cut.proved == (cut.bound <= one.score)
    assert cut.proved or "not proved" in str(cut)


def test_an_exact_search_may_beat_greedy_and_beams():
    """On a model that is sure of nothing, some prompt has a text that greedy decoding misses."""
    able, sampling = Decoder(SMALL, parameters(SMALL)), Sampling(greedy=True, stop_ids=(2,))
    given = [[a, b] for a in range(5) for b in range(3)]
    exact = [Exact(10**5).best(able, asked([prompt], sampling, able, 5), 0)[0] for prompt in given]
    greedy = able.generate(given, max_new_tokens=5, sampling=sampling, seeds=range(15))
    beam = Beam(2, length_penalty=0.0, early_stopping="never").run(able, asked(given, sampling, able, 5))
    for best, likely, (found,) in zip(exact, greedy.logprobs, beam, strict=True):
        assert best.score >= max(sum(likely), found.score) - 1e-4
    assert any(best.tokens != tokens for best, tokens in zip(exact, greedy.tokens, strict=True))


def contrastive(c, prompt, new, alpha, candidates):
    """Su et al. 2022, equation 5, without a cache."""
    m, text = model(c, parameters(c)), list(prompt)
    for _ in range(new):
        scores = np.asarray(logits(c, parameters(c), np.array([text]))[0, -1], np.float64)
        p = np.exp(scores - np.logaddexp.reduce(scores))
        best = []
        for token in np.argsort(-p, kind="stable")[:candidates]:
            hidden = np.asarray(m.hidden(np.array([[*text, token]]))[0][0], np.float64)
            unit = hidden / np.linalg.norm(hidden, axis=-1, keepdims=True)
            best.append(((1 - alpha) * p[token] - alpha * (unit[:-1] @ unit[-1]).max(), token))
        text.append(int(max(best)[1]))
    return text[len(prompt) :]


@pytest.mark.parametrize("alpha, candidates", [(0.6, 4), (0.3, 3)])
def test_contrastive_search_is_as_defined(alpha, candidates):
    given = prompts(C, [5, 9])
    found = Contrastive(alpha, candidates).run(decoder(), asked(given, GREEDY, new=[6, 4]))
    expected = [contrastive(C, prompt, new, alpha, candidates) for prompt, new in zip(given, (6, 4), strict=True)]
    assert [row[0].tokens for row in found] == expected
    fixed = Decoder(C, parameters(C), ACCELERATOR)
    assert Contrastive(alpha, candidates).run(fixed, asked(given, GREEDY, fixed, [6, 4]))[0][0].tokens == expected[0]
    stop = expected[0][2]
    (short,) = Contrastive(alpha, candidates).run(decoder(), asked(given[:1], replace(GREEDY, stop_ids=(stop,))))
    assert short[0].tokens == expected[0][: expected[0].index(stop) + 1]
    assert len(short[0].logprobs) == len(short[0].tokens)


def test_knobs_choose_a_search():
    cold = replace(DEFAULTS, temperature=0.0)
    assert chosen.chosen(DEFAULTS) is None and chosen.chosen(replace(DEFAULTS, num_return_sequences=3)) is None
    beam = replace(cold, num_beams=6, num_return_sequences=2, num_beam_groups=3, diversity_penalty=0.5)
    assert chosen.chosen(replace(beam, early_stopping="never")) == Beam(6, 2, 3, 0.5, 1.0, "never")
    assert chosen.chosen(replace(DEFAULTS, best_of=4)) == BestOf(4, rows=DEFAULTS.rows)
    assert chosen.chosen(replace(cold, penalty_alpha=0.6, top_k=4)) == Contrastive(0.6, 4)
    assert chosen.chosen(replace(cold, exact_nodes=9)) == Exact(9)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"num_beams": 2, "num_return_sequences": 3}, ("num_return_sequences = 3", "num_beams=3")),
        ({"num_beams": 4, "num_beam_groups": 3, "diversity_penalty": 1.0}, ("num_beam_groups", "divide")),
        ({"num_beams": 4, "num_beam_groups": 2}, ("diversity_penalty",)),
        ({"num_beams": 4, "diversity_penalty": 1.0}, ("num_beam_groups",)),
        ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "temperature": 0.5}, ("temperature",)),
        ({"num_return_sequences": 2}, ("num_return_sequences", "temperature")),
        ({"length_penalty": 2.0}, ("length_penalty", "num_beams")),
        ({"early_stopping": True}, ("early_stopping", "num_beams")),
        ({"num_beams": 2, "early_stopping": "soon"}, ("'soon'", "never")),
        ({"num_beams": 2, "best_of": 3}, ("num_beams", "best_of")),
        ({"best_of": 3}, ("best_of", "temperature")),
        ({"best_of": 3, "num_return_sequences": 4, "temperature": 1.0}, ("num_return_sequences", "best_of=4")),
        ({"penalty_alpha": 0.5}, ("penalty_alpha", "top_k")),
        ({"penalty_alpha": 0.5, "top_k": 4, "temperature": 0.8}, ("penalty_alpha", "temperature=0")),
        ({"num_beams": 2, "stop_strings": "."}, ("stop strings", "num_beams", "stop_token_ids")),
        ({"exact_nodes": 5, "stop_strings": (".",)}, ("stop strings", "exact_nodes", "stop_token_ids")),
        ({"exact_nodes": 5, "temperature": 0.8}, ("exact_nodes", "temperature=0")),
        ({"exact_nodes": 5, "num_return_sequences": 2}, ("exact_nodes", "num_return_sequences=1")),
    ],
)
def test_contradictions_name_their_knobs(changes, words):
    with pytest.raises(UserError) as error:
        chosen.chosen(replace(DEFAULTS, **({"temperature": 0.0} | changes)))
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("search", [Beam(2), Contrastive(0.5, 3)])
def test_processors_that_end_texts_are_refused(search):
    ending = Processor(lambda logits_BV, step: logits_BV, ends=lambda step: step.length_B > 0)
    with pytest.raises(UserError, match="end texts"):
        search.run(decoder(), asked(prompts(C, [3]), replace(GREEDY, processors=(ending,))))


@pytest.mark.parametrize("search", [Beam(2), Contrastive(0.5, 3)])
def test_scores_that_are_not_finite_are_no_text(search):
    broken = decoder().with_params(jax.tree.map(lambda leaf: leaf * np.nan, parameters(C)))
    with pytest.raises(NonFiniteError, match="not finite"):
        search.run(broken, asked(prompts(C, [3]), GREEDY, broken))


def test_a_score_needs_several_texts():
    with pytest.raises(UserError, match="best_of"):
        chosen.chosen(DEFAULTS, lambda number, text: 0.0)


def test_the_command_prints_what_is_found(capsys):
    """A single text whole, several under their numbers, and their scores in JSON lines."""
    one = replace(SAMPLE, temperature=0.0, num_beams=3)
    whole = command("text", capsys, sample=one, prompt="ab")
    line = json.loads(command("jsonl", capsys, sample=one, prompt="ab"))
    assert whole == "ab" + line["text"] + "\n"
    assert abs(line["score"] - np.mean(line["logprobs"])) < 1e-4
    several = replace(one, num_return_sequences=2)
    assert command("text", capsys, sample=several, prompt="ab").startswith(
        "--- sample 1\n" + whole + "--- sample 2\nab"
    )
    rows = [json.loads(row) for row in command("jsonl", capsys, sample=several).splitlines()]
    assert [row["prompt"] for row in rows] == ["ab", "ab", "c", "c"] and rows[0]["ids"] == line["ids"]
    assert rows[0]["score"] >= rows[1]["score"] and rows[2]["score"] >= rows[3]["score"]


def test_the_command_says_whether_a_text_is_proved_to_be_the_best(capsys):
    few = replace(SAMPLE, temperature=0.0, max_new_tokens=2, exact_nodes=1)
    names = ("prompt", "prompt_ids", "prompts")
    sample_command(MODEL, parameters(MODEL), Bytes(), few, dict.fromkeys(names) | {"prompt": "ab"}, "text")
    assert "prompt 1: " in (noted := capsys.readouterr().err) and "1 prefixes read" in noted


def test_contradictions_are_refused_before_anything_is_read_or_trained(tmp_path):
    wrong = replace(SAMPLE, num_beams=2, num_return_sequences=3)
    with pytest.raises(UserError, match="num_return_sequences = 3"):
        sample_command(MODEL, {}, Bytes(), wrong, {"prompt": "ab"}, "text")
    values = configs.load("quickstart")
    values.sample.update(num_beams=2, num_return_sequences=3)
    with pytest.raises(UserError, match="num_return_sequences = 3"):
        gpt_jax.train(values, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_score_of_ones_own_chooses(capsys):
    prompts = [Prompt(list(b"ab"), "ab", "here")]
    several = replace(SAMPLE, best_of=4)

    def rows(sample, score):
        found = requests(prompts, MODEL, sample, False, Bytes())
        return [row for _, row in written(Decoder(MODEL, parameters(MODEL)), found, Bytes(), score)]

    every = rows(replace(several, num_return_sequences=4), lambda row: -row.ids[0])
    assert len({row.ids[0] for row in every}) > 1
    assert [row.score for row in every] == sorted((-row.ids[0] for row in every), reverse=True)
    (lowest,), (highest,) = rows(several, lambda row: -row.ids[0]), rows(several, lambda row: row.ids[0])
    assert lowest.ids == every[0].ids and highest.ids[0] == every[-1].ids[0]


@pytest.mark.parametrize("search", [{"best_of": 6, "num_return_sequences": 6}, {"penalty_alpha": 0.6, "top_k": 4}])
def test_scores_are_of_texts_up_to_their_stop_strings(search):
    sample = replace(LETTERS, temperature=0.0 if "top_k" in search else 0.9, **search)
    whole = written_letters("ab", sample=sample)
    stops = (whole[0].text[5:7], whole[-1].text[4:6])
    cut = written_letters("ab", sample=replace(sample, stop_strings=stops))
    short = [row for row in cut if row.finish_reason == "stop_string"]
    assert short and all(len(row.logprobs) == len(row.ids) for row in cut)
    if "best_of" in search:
        assert [row.score for row in cut] == sorted((np.mean(row.logprobs) for row in cut), reverse=True)
        assert sorted(row.ids for row in cut) == sorted(_up_to(row, stops) for row in whole)
    else:
        as_long = replace(sample, max_new_tokens=len(short[0].ids))
        (expected,) = written_letters("ab", sample=as_long)
        assert abs(short[0].score - expected.score) < 1e-5 < abs(short[0].score - whole[0].score)


def _up_to(row, stops):
    end = first_stop(row.text, stops)
    return row.ids[: len(row.ids) if end is None else end[0]]
