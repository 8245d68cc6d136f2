"""The calls of well-known tutorials of transformers, on an imported GPT-2 with random weights: the same texts here."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import gpt_jax
from gpt_jax import registry
from gpt_jax.main import main
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.knobs import sampling
from gpt_jax.sample.processors import Vocabulary

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sampling.md"
PROMPT = [40, 2883, 6155, 351]  # below the vocabulary of SIZES
SIZES = {"vocab_size": 6200, "n_positions": 128, "n_embd": 16, "n_layer": 2, "n_head": 2}
STOP = 50
ngrams = pytest.mark.skipif(
    "no_repeat_ngram" not in registry.names("sample.processors"), reason="the processor is not there yet"
)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Their model, saved with an end-of-text token, and the directory."""
    config = transformers.GPT2Config(**SIZES, bos_token_id=STOP, eos_token_id=STOP)
    made = transformers.GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    directory = tmp_path_factory.mktemp("gpt2")
    made.save_pretrained(directory)
    return made, directory


@pytest.fixture(scope="module")
def ours(theirs):
    return gpt_jax.load(theirs[1])


def generate(made, **settings):
    """What their model writes after the prompt, a list a text."""
    given = torch.tensor([PROMPT])
    with torch.no_grad():
        found = made.generate(given, attention_mask=torch.ones_like(given), pad_token_id=STOP, **settings)
    rows = [row[len(PROMPT) :] for row in found.tolist()]
    return [row[: row.index(STOP) + 1] if STOP in row else row for row in rows]


def printed(number):
    """The settings of the call in a row of the page's table, as a function takes them."""
    rows = re.findall(
        r"^\| `(?:model\.generate|generator)\((.*?)\)` \| `model\.generate\((.*?)\)` \|$", PAGE.read_text("utf-8"), re.M
    )
    return [eval(f"dict({call.split(', ', 1)[1]})") for call in rows[number]]


def commanded(number):
    """The settings of a command of the page."""
    part = PAGE.read_text("utf-8").split("## Coming from transformers")[1].split("\n## ")[0]
    lines = re.findall(r"^    python launch.py sample (.*)$", part, re.M)
    return [word for word in lines[number].split() if word.startswith("--sample.")]


def by_command(directory, number, capsys):
    """What the command writes after the prompt, given as ids."""
    ids = " ".join(map(str, PROMPT))
    workdir = directory.parent / f"run{number}"
    assert main(["import", f"--from={directory}", f"--workdir={workdir}"]) == 0
    capsys.readouterr()
    flags = [f"--workdir={workdir}", f"--prompt_ids={ids}", "--output=jsonl", *commanded(number)]
    assert main(["sample", *flags]) == 0
    return [json.loads(line)["ids"] for line in capsys.readouterr().out.splitlines()]


def test_a_single_text(theirs, ours, capsys):
    made, directory = theirs
    there, here = printed(0)
    expected = generate(made, **there)
    assert [ours.generate(PROMPT, **here).ids] == expected == by_command(directory, 0, capsys)
    assert len(expected) == 1 and len(expected[0]) > 10


@ngrams
def test_three_beams_without_repetitions(theirs, ours, capsys):
    made, directory = theirs
    there, here = printed(1)
    expected = generate(made, **there)
    assert ours.generate(PROMPT, **here).ids == expected == by_command(directory, 1, capsys)
    assert len(expected) == 3
    for text in expected:
        pairs = list(zip([*PROMPT, *text], [*PROMPT, *text][1:], strict=False))
        assert len(pairs) == len(set(pairs))


def test_beams_with_early_stopping(theirs, ours):
    """The same as far as it needs no further processor."""
    made, _ = theirs
    there, here = ({k: v for k, v in settings.items() if k != "no_repeat_ngram_size"} for settings in printed(1))
    assert ours.generate(PROMPT, **here).ids == generate(made, **there)


def test_five_samples_of_thirty_tokens(theirs, ours):
    """Draws differ by their generators; the distribution of the next token is the same, and so is its most likely text."""
    made, _ = theirs
    there, here = printed(2)
    assert there["max_length"] - len(PROMPT) == here["max_new_tokens"]
    how = sampling(Vocabulary(SIZES["vocab_size"]), **{name: here[name] for name in ("temperature", "top_k")})
    drawn = Decoder(ours.config.model, ours.params).generate(
        [PROMPT], max_new_tokens=1, sampling=how, seeds=[0], noted=("top_ids", "final_top_logprobs"), top=60
    )
    given, one = torch.tensor([PROMPT]), {"max_new_tokens": 1, "pad_token_id": STOP, "do_sample": True}
    mask = torch.ones_like(given)
    shown = made.generate(given, attention_mask=mask, return_dict_in_generate=True, output_scores=True, **one)
    expected_V = torch.log_softmax(shown.scores[0][0], -1).numpy()
    ids, logprobs_T = drawn.notes["top_ids"][0][0], drawn.notes["final_top_logprobs"][0][0]
    np.testing.assert_allclose(logprobs_T, expected_V[ids], atol=1e-4)
    assert np.isfinite(expected_V).sum() == np.isfinite(logprobs_T).sum() == 50
    greedy = {name: value for name, value in here.items() if name not in ("top_k", "num_return_sequences")}
    expected = generate(made, max_length=there["max_length"], do_sample=False)
    assert [ours.generate(PROMPT, **greedy | {"temperature": 0}).ids] == expected
    beams = greedy | {"temperature": 0, "num_beams": 5, "num_return_sequences": 5}
    assert ours.generate(PROMPT, **beams).ids == generate(
        made, max_length=there["max_length"], do_sample=False, num_beams=5, num_return_sequences=5
    )
