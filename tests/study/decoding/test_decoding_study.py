"""A study of decoding on a run: texts are written once, by one program, and the page shows what the model found likely."""

import json
import re

import jax
import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains

import launch
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.engine import turns
from gpt_jax.sample.platform import CPU
from gpt_jax.sample.processors import Vocabulary
from gpt_jax.study.decoding import scores, texts
from gpt_jax.study.decoding.samplers import GREEDY, HUMAN, PURE, Sampler, default, read
from tests.model.variants import config, logits, parameters
from tests.train import tiny

C = config(context=32)
LOADED = re.compile(r"<script|<link|<img|@import|url\((?!#)|\bsrc=|href=\"(?!#)")  # what a page takes from elsewhere
GRID = {"greedy": {"temperature": 0}, "warm": {"temperature": 1.5}, "few": {"top_k": 3}, "pure": {}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of bytes, its study with an earlier step as the second model, and a run of characters."""
    folder = tmp_path_factory.mktemp("decoding")
    text = tiny.write_text(folder)
    settings = {"train__steps": 2, "train__batch": 8, "train__save_every": 1}
    assert launch.main(tiny.command(text, folder / "bytes", **settings)) == 0
    assert launch.main(tiny.command(text, folder / "chars", **settings, data__tokenizer="chars")) == 0
    (folder / "grid.json").write_text(json.dumps(GRID))
    assert launch.main(words(folder)) == 0
    return folder


def words(folder, *more: str) -> list[str]:
    flags = [f"--workdir={folder / 'bytes'}", f"--grid={folder / 'grid.json'}", f"--to={folder / 'out'}"]
    return ["decoding", *flags, f"--second={folder / 'bytes'}", "--second_step=1", "--prompts=14", *more]


SAMPLERS = default()


def grid(samplers=SAMPLERS, prompts=5, seeds=2, new=6, model="a") -> texts.Grid:
    given = np.random.default_rng(0).integers(C.vocab, size=(prompts, 4)).tolist()
    return texts.Grid(samplers, given, seeds, new, model)


def write(asked: texts.Grid, folder, rows=60) -> list[texts.Text]:
    folder.mkdir(exist_ok=True)
    return texts.write(Decoder(C, parameters(C)), Vocabulary(C.vocab), asked, folder, rows)


def test_one_program_writes_all_samplers_and_nothing_is_written_twice(tmp_path, monkeypatch):
    before = [program._cache_size() for program in turns.compiled(CPU, True)]
    found = write(grid(), tmp_path)
    after = [program._cache_size() for program in turns.compiled(CPU, True)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 0]
    assert len(found) == 5 * (2 * len(SAMPLERS) - 1)  # greedy once
    kept = (tmp_path / texts.NAME).read_text()
    assert len(kept.splitlines()) == len(found)
    assert write(grid(), tmp_path) == found and (tmp_path / texts.NAME).read_text() == kept
    (tmp_path / texts.NAME).write_text(kept[:-40])  # a crash
    again = write(grid(), tmp_path)  # one text, among others than before: up to rounding what it was
    assert again[:-1] == found[:-1] and again[-1].ids == found[-1].ids
    np.testing.assert_allclose(again[-1].logprobs, found[-1].logprobs, atol=1e-4)
    assert len((tmp_path / texts.NAME).read_text().splitlines()) == len(found)
    write(grid(prompts=6), tmp_path)
    assert len((tmp_path / texts.NAME).read_text().splitlines()) == len(found) * 6 // 5
    write(grid(model="another"), tmp_path)
    assert len((tmp_path / texts.NAME).read_text().splitlines()) == len(found) * 11 // 5


def test_texts_do_not_depend_on_their_batch_and_share_their_keys(tmp_path):
    samplers = (Sampler(PURE, {}), Sampler("the same", {"top_p": 1.0}), Sampler(GREEDY, {"temperature": 0}))
    found = write(grid(samplers), tmp_path / "a")
    assert [text.ids for text in write(grid(samplers), tmp_path / "b", rows=1)] == [text.ids for text in found]
    by_name = {name: [text.ids for text in found if text.sampler == name] for name in (PURE, "the same")}
    assert by_name[PURE] == by_name["the same"] and len(set(map(tuple, by_name[PURE]))) == 10
    greedy = [text for text in found if text.sampler == GREEDY]
    assert all(value == 0 for text in greedy for value in text.final_logprobs) and greedy[0].logprobs[0] < 0


def test_scores_are_those_of_the_model(tmp_path):
    asked = grid((Sampler("few", {"top_k": 3}), Sampler(PURE, {})))
    written = write(asked, tmp_path)
    prompts = [np.array(asked.prompts[text.prompt]) for text in written]
    params = parameters(C)
    for text, prompt, found in zip(
        written, prompts, scores.score(C, params, prompts, [np.array(t.ids) for t in written], 4), strict=True
    ):
        np.testing.assert_allclose(found.logprobs_T, text.logprobs, atol=1e-4)
        whole_BT = np.array([[*prompt, *text.ids]])
        logs_TV = np.asarray(jax.nn.log_softmax(logits(C, params, whole_BT)[0]))[len(prompt) - 1 : -1]
        np.testing.assert_allclose(found.entropy_T, -(np.exp(logs_TV) * logs_TV).sum(-1), atol=1e-4)
        assert found.top_ids_TN.tolist() == np.argsort(-logs_TV, axis=-1)[:, :4].tolist()
        np.testing.assert_allclose(found.top_logprobs_TN, -np.sort(-logs_TV, axis=-1)[:, :4], atol=1e-4)
        gains = np.subtract(text.final_logprobs, text.logprobs)
        assert (gains > 0).all() if text.sampler == "few" else np.abs(gains).max() < 2e-5
        assert found.states_SD.shape == (2, C.width)


def test_what_a_study_keeps(runs):
    kept = json.loads((runs / "out" / "metrics.json").read_text())
    assert list(kept["by_prompt"]) == [HUMAN, *GRID] and kept["step"] == 2
    assert all(len(values) == 14 for found in kept["by_prompt"].values() for values in found.values())
    assert kept["by_prompt"]["pure"]["kl"] == [0] * 14 and min(kept["by_prompt"]["greedy"]["kl"]) > 0
    assert {"perplexity", "perplexity_second", "frontier"} <= set(kept["by_prompt"]["warm"])
    assert kept["by_prompt"]["warm"]["perplexity"] != kept["by_prompt"]["warm"]["perplexity_second"]
    rows = (runs / "out" / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("sampler,perplexity,perplexity_low") and len(rows) == 6
    assert {path.stem for path in (runs / "out" / "figures").glob("*.png")} == {"frontier", "repetition"}


def test_the_page_shows_what_the_model_found_likely(runs, browser):
    page = runs / "out" / "decoding.html"
    assert not LOADED.search(page.read_text())
    browser.get(page.as_uri())
    assert not browser.get_log("browser")
    assert browser.execute_script("return document.querySelectorAll('figure svg').length") == 2
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 1300
    cards = browser.find_elements("css selector", ".text")
    assert len(cards) == 4 * (1 + len(GRID)) and cards[1].text.startswith("greedy")
    tokens = cards[1].find_elements("css selector", ".t")
    above = "return getComputedStyle(arguments[0], '::after').content"
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", tokens[2])
    assert browser.execute_script(above, tokens[2]) == "none"
    ActionChains(browser).move_to_element(tokens[2]).perform()
    seen = browser.execute_script(above, tokens[2])
    lines = tokens[2].get_attribute("data-top").split("\n")
    assert len(lines) == 10 and all("%" in line for line in lines[2:])
    assert lines[2].split("%")[1].strip() == lines[0].rsplit("  ", 1)[0].strip()  # greedy takes the likeliest
    assert all(line.strip() in seen.replace("\\\\", "\\") for line in lines if "\\" not in line)


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", "cannot be read"),
        ("[1]", "holds no samplers"),
        ('{"a": 3}', "holds no samplers"),
        ('{"a": {"temperature": NaN}}', "cannot be read"),
        ('{"human": {}}', "is the name of the held-out text"),
        ('{"a": {"temprature": 1}}', "did you mean 'temperature'?"),
        ('{"a": {"top_p": 2}}', "a.top_p"),
        ('{"a": {"top_k": 2.5}}', "a.top_k"),
        ('{"a": {"processors": "top_p(p=0.5)"}}', "a.processors"),
        ('{"a": {"processors": ["nothing"]}}', "a: "),
    ],
)
def test_grids_that_are_none_are_refused(content, said, runs, tmp_path, capsys):
    (tmp_path / "grid.json").write_text(content)
    assert (
        launch.main(["decoding", f"--workdir={runs / 'bytes'}", f"--grid={tmp_path / 'grid.json'}", "--prompts=2"]) == 2
    )
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--prompts=4000"], "windows for 4000 prompts"),
        (["--prompt_tokens=10", "--new_tokens=10"], "do not fit into 16 positions"),
        (["--prompt_tokens=16"], "do not fit"),
        (["--grid=nowhere.json"], "cannot be read"),
        (["--prompts=2", "--second=nowhere"], "nowhere"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(flags, said, runs, capsys):
    assert launch.main(["decoding", f"--workdir={runs / 'bytes'}", *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_second_model_with_other_tokens_is_refused(runs, capsys):
    assert launch.main([*words(runs), f"--second={runs / 'chars'}", "--second_step=2"]) == 2
    assert "has other tokens than this run" in capsys.readouterr().err


def test_a_grid_is_read_as_it_stands(tmp_path):
    (tmp_path / "g.json").write_text('{"a": {"top_k": 5, "processors": ["top_p(p=0.5)"]}}')
    (found,) = read(tmp_path / "g.json")
    assert found == Sampler("a", {"top_k": 5, "processors": ("top_p(p=0.5)",)})
    assert len(found.sampling(Vocabulary(9)).processors) == 2
