"""What the terminal shows at the start of a run, and beside the losses of its evaluations."""

import dataclasses
import re

import pytest

import launch
from gpt_jax.configs import tune
from gpt_jax.train import describe
from tests.train import tiny


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, arguments of its run) of a run that trained two steps."""
    folder = tmp_path_factory.mktemp("described")
    argv = tiny.command(tiny.write_text(folder), folder / "run", train__batch=8, train__steps=2, train__eval_every=2)
    return folder, argv


def test_a_start_is_described_before_its_first_step(finished, capsys):
    folder, argv = finished
    assert launch.main(argv) == 0
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    labels = [line[:15].strip() for line in lines[:5]]
    assert labels == ["devices", "data", "data", "parameters", "run directory"]
    assert "data=8: 8 x cpu" in lines[0]
    assert "reading text(path=" in lines[1]
    tokens = re.search(r"([\d,]+) tokens for training, ([\d,]+) for validation; vocabulary 257 \(bytes\)", lines[2])
    assert tokens and int(tokens[1].replace(",", "")) > int(tokens[2].replace(",", "")) > 0
    total, blocks, tables = (int(n.replace(",", "")) for n in re.findall(r"[\d,]{3,}\d", lines[3])[:3])
    assert total == blocks + tables and tables == (257 + 16) * 16
    assert "float32" in lines[3] and str(folder / "run") in lines[4]
    assert lines[5].startswith("step 1/2")
    covered = re.search(r"step 2: validation .* (over 2 of \d+ batches of 8 \(train.eval_batches)", shown.err)
    assert covered and covered[1] in shown.out

    assert launch.main(argv) == 0  # a finished run describes itself too
    again = capsys.readouterr().err.splitlines()
    assert again[:5] == lines[:5] and "resumed after 2 of 2 steps" in again[5]


def test_an_evaluation_says_how_much_it_covers(finished, capsys):
    folder, argv = finished
    if not (folder / "run").exists():
        assert launch.main(argv) == 0
    for flags, words in (
        ([], r"over all \d+ batches of 8"),
        (["--config.eval.batches=2"], r"over 2 of \d+ batches of 8"),
    ):
        capsys.readouterr()
        assert launch.main(["eval", f"--workdir={folder / 'run'}", *flags]) == 0
        assert re.search(words, capsys.readouterr().out)


@pytest.mark.parametrize(
    "saved, evaluated, said",
    [(250, 100, "of every 500 steps and of the last"), (700, 300, "checkpoints of the last"), (100, 100, ""),
     (100, 400, ""), (400, 100, ""), (1000, 300, "")],
)  # fmt: skip
def test_checkpoints_that_are_not_compared_are_named(saved, evaluated, said):
    settings = tiny.config(train__steps=1000, train__save_every=saved, train__eval_every=evaluated).train
    assert said in describe.checkpoints(settings) and bool(said) == bool(describe.checkpoints(settings))
    assert not describe.checkpoints(dataclasses.replace(settings, keep_best=False))


@pytest.mark.parametrize("method", tune.SIZES)
def test_every_checkpoint_of_a_preset_for_tuning_is_compared(method):
    settings = tune.get_config(method).train
    assert settings.save_every % settings.eval_every == 0


def test_the_first_process_alone_describes(monkeypatch, capsys):
    monkeypatch.setattr(describe.jax, "process_index", lambda: 1)
    describe.on_stderr("data", "none")
    assert capsys.readouterr().err == ""
