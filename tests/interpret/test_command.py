"""launch.py interpret on finished runs."""

import json

import pytest

import launch
from tests.train import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interpret")
    text = tiny.write_text(folder)
    settings = {
        "train__steps": 2,
        "train__batch": 8,
        "model__layers": 2,
        "model__attention": "['full', 'sliding(window=4)']",
    }
    assert launch.main(tiny.command(text, folder / "run", **settings, model__scan=True)) == 0
    return folder / "run"


def test_everything_is_measured_and_drawn(run, capsys):
    assert launch.main(["interpret", f"--workdir={run}", "--text=some words"]) == 0
    assert capsys.readouterr().out.strip() == str(run / "interpret")
    scores = json.loads((run / "interpret" / "scores.json").read_text())
    assert scores["step"] == 2 and len(scores["heads"]["prefix_matching"]) == 2
    assert len(scores["loss_by_token"]) == 16 and 0 < scores["loss"] < 6
    names = {path.stem for path in (run / "interpret").glob("*.png")}
    assert names == {
        *("attention", "prefix_matching", "previous_token", "loss_without_head"),
        *("lens", "losses", "stream_spectrum", "weight_spectrum"),
    }


def test_text_that_does_not_fit_is_refused(run, capsys):
    assert launch.main(["interpret", f"--workdir={run}", "--text=" + "long " * 20]) == 2
    assert "2 to 16 tokens" in capsys.readouterr().err


def test_what_has_no_softmax_is_measured_without_maps(tmp_path, capsys):
    text = tiny.write_text(tmp_path)
    assert (
        launch.main(tiny.command(text, tmp_path / "run", train__steps=1, train__batch=8, model__attention="linear"))
        == 0
    )
    assert launch.main(["interpret", f"--workdir={tmp_path / 'run'}"]) == 0
    scores = json.loads((tmp_path / "run" / "interpret" / "scores.json").read_text())
    assert "softmax" in scores["attention"] and "heads" not in scores
