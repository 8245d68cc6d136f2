"""What a model finds again: cells of length and depth, with their rows, figures and refusals."""

import json

import pytest

import launch
from gpt_jax.config import Config
from gpt_jax.run_directory import read_config
from gpt_jax.study import haystack
from tests.train import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    text = folder / "text.txt"
    text.write_text("The number of the anchor is 777. " * 200)
    changes = {
        "train__batch": 8,
        "train__steps": 150,
        "optim__lr": 0.01,
        "model__context": 160,
        "train__eval_every": 150,
    }
    assert launch.main(tiny.command(text, folder / "run", **changes, model__width=32, model__position="rope")) == 0
    return folder / "run"


@pytest.mark.slow
def test_cells_hold_what_was_right(run, capsys):
    asked = ["haystack", f"--workdir={run}", "--lengths=90,70", "--depths=3", "--count=4"]
    assert launch.main(asked) == 0
    held = json.loads((run / "haystack" / "haystack.json").read_text())
    cells = [(cell["length"], cell["depth"]) for cell in held["cells"]]
    assert cells == [(length, depth) for length in (70, 90) for depth in (0.0, 0.5, 1.0)]
    assert all(0 <= cell["low"] <= cell["right"] / 4 <= cell["high"] <= 1 for cell in held["cells"])
    assert (run / "haystack" / "haystack.png").stat().st_size > 1000
    assert "70 characters" in capsys.readouterr().out


def test_answers_that_are_learned_are_right(run):
    from gpt_jax import api
    from gpt_jax.sample.decode import Decoder

    config = Config.from_dict(read_config(run))
    model = api.opened(config, run)
    prompt = "The number of the anchor is 777. The number of the anchor is"
    rows = [{"prompt": prompt, "answer": " 777"}, {"prompt": prompt, "answer": " 77"}]
    decoder = Decoder(config.model, model.params)
    (cell,) = haystack.measure(config, decoder, model.tokenizer, None, [(60, 0.0, rows)])
    assert (cell.right, cell.count) == (1, 2)
    assert cell.low == pytest.approx(0.0945, abs=1e-3) and cell.high == pytest.approx(0.9055, abs=1e-3)


@pytest.mark.parametrize(
    "text, answer, right",
    [
        (" 412. The", " 412", True),
        ("412", " 412", True),
        (" 4123", " 412", False),
        (" 41", " 412", False),
        ("", "1", False),
    ],
)
def test_an_answer_is_right_where_a_text_begins_with_it(text, answer, right):
    assert haystack.is_right(text, answer) is right


@pytest.mark.parametrize(
    "flags, what",
    [
        (["--lengths=many"], "--lengths=many"),
        (["--lengths=60", "--source=arithmetic"], "lengths"),
        (["--lengths=20"], "do not hold"),
        (["--lengths=300", "--count=1"], "do not fit into 160"),
    ],
)
def test_what_cannot_be_asked_is_refused(run, capsys, flags, what):
    assert launch.main(["haystack", f"--workdir={run}", *flags]) == 2
    assert what in capsys.readouterr().err
