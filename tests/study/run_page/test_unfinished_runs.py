"""Pages of runs that go on, were stopped or killed, wrote little, or wrote what is no number; and of what is no run."""

import json
import re
import shutil

import pytest

import launch
from gpt_jax.errors import StorageError
from gpt_jax.run_directory import config_json
from gpt_jax.storage import write_json
from gpt_jax.study.run_page import page
from gpt_jax.train import loop
from gpt_jax.train.checkpoint.lock import WorkdirLock
from gpt_jax.train.record import metrics
from tests.study.report.test_report import Page
from tests.train import tiny


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was stopped after 4 of 12 steps."""
    folder = tmp_path_factory.mktemp("stopped")
    source = f"text(path={str(tiny.write_text(folder))!r})"
    settings = tiny.config(data__source=source, data__cache=str(folder / "cache"), train__batch=8)
    loop.train(settings, folder / "run", until=4)
    return folder / "run"


@pytest.fixture
def run(stopped, tmp_path):
    """A copy of it."""
    return shutil.copytree(stopped, tmp_path / "run")


def said(workdir) -> str:
    found = Page(page.report(workdir).read_text())
    assert not found.open
    return found.text


def of_metrics(folder, *records: dict, **summary):
    """A run directory with these records and no other file but its settings."""
    folder.mkdir()
    (folder / "config.json").write_text(config_json(tiny.config(), folder))
    log = metrics.MetricsLog(folder, -1)
    for step, record in enumerate(records, 1):
        log.write(step, {"tokens": 64 * step, **record})
    log.close()
    if summary:
        write_json(folder / "summary.json", summary)
    return folder


def test_a_run_that_was_stopped(run):
    text = said(run)
    assert "It was stopped after 4 of 12 steps; the command that trained it resumes it." in text
    assert "There is one evaluation: validation loss was" in text


def test_a_run_that_goes_on(run):
    with WorkdirLock(run):
        text = said(run)
    assert "It is still running: 4 of 12 steps are recorded (process " in text
    assert "between its first and its last record" in text
    assert re.search(r"Goodput \d+% of [\d.]+s on steps that count; .*compile \d+%", text)


def test_steps_that_were_lost(run):
    seconds = {"start": 10.0, "steps": 40.0, "compile": 30.0, "lost": 20.0, "data": 0.1}
    write_json(run / "goodput.json", {"step": 4, "lost_steps": 1200, "seconds": seconds})
    wanted = "40% of 1m40s on steps that count; compile 30%, lost 20%, start 10%; 1,200 steps lost and done again."
    assert f"Goodput {wanted}" in said(run)
    (run / "goodput.json").unlink()  # as of runs that were trained before there was such a file
    assert "Goodput" not in said(run)


def test_a_run_that_was_killed(run):
    (run / "summary.json").unlink()
    (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes()[:-9])  # in the middle of its last line
    assert "It ended without a summary after 4 of 12 steps: it failed or was killed." in said(run)
    assert "There is no evaluation with a finite valid/loss." in said(run)


def test_a_run_that_was_resumed_and_then_killed_is_not_what_its_summary_says(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 7, "tokens": 448, "time": 0.0, "train/loss": 5.0}) + "\n")
    assert "It ended without a summary after 7 of 12 steps" in said(run)


def test_the_command_that_resumes_is_the_one_that_was_typed(run):
    starts = json.loads((run / "environment.json").read_text())["starts"]
    words = ["/somewhere/launch.py", "train", "--config=base", "--config.model.mlp=a b", "--workdir=run"]
    write_json(run / "environment.json", {"starts": [{**starts[0], "argv": words}]})
    assert "# resume python launch.py train --config=base '--config.model.mlp=a b' --workdir=run" in said(run)
    summary = json.loads((run / "summary.json").read_text())
    write_json(run / "summary.json", {**summary, "status": "done"})
    assert "# resume" not in said(run)


def test_nothing_but_settings(tmp_path):
    text = said(of_metrics(tmp_path / "run"))
    assert "No metrics are recorded: nothing has been trained in this directory." in text
    assert "There are no finite numbers to draw." in text and "No samples are kept" in text


def test_one_step_without_an_evaluation(tmp_path):
    folder = of_metrics(tmp_path / "run", {"train/loss": 3.0, "train/lr": 1e-3})
    text = said(folder)
    assert "There is no evaluation with a finite valid/loss." in text and "There is nothing of an evaluation" in text
    assert "train/loss: 3 at step 1, 3 at step 1" in (folder / "report.html").read_text()


def test_values_that_are_no_finite_numbers(tmp_path):
    nan, inf = float("nan"), float("inf")
    records = [{"train/loss": nan, "valid/loss": 3.0}, {"train/loss": 2.0, "valid/loss": inf}, {"valid/loss": nan}]
    text = said(of_metrics(tmp_path / "few", *records))
    assert "There is one evaluation: validation loss was 3 at step 1." in text
    assert "Values in metrics.jsonl that are not finite: 3 (limit: at most 0)." in text
    none = of_metrics(tmp_path / "none", {"train/loss": nan, "valid/loss": nan, "train/reward": "word"})
    assert "There are no finite numbers to draw." in said(none)


def test_what_is_written_by_a_model_or_a_user_is_no_markup(tmp_path):
    folder = of_metrics(tmp_path / "<i>run", {"train/loss": 3.0})
    (folder / "samples").mkdir()
    evil = "<script>alert('|')</script> & \\| </td>"
    cells = [evil.replace("|", "\\|")] * 2
    for step in (0, 1):
        (folder / "samples" / f"rollout-{step}.md").write_text(f"| best | 1 | {' | '.join(cells)} |\n")
    page.report(folder)
    source = (folder / "report.html").read_text()
    shown = Page(source)
    assert "<script" not in source and "<i>" not in source and not shown.open
    assert shown.text.count(evil) >= 5 and f"{evil} → 1" in shown.text and "<i>run" in shown.text


def test_long_samples_are_cut(tmp_path):
    folder = of_metrics(tmp_path / "run", {"train/loss": 3.0})
    (folder / "samples").mkdir()
    for step, letter in ((2, "a"), (10, "b")):
        (folder / "samples" / f"{step}.txt").write_text(letter * 5000)
    (folder / "samples" / "notes.txt").write_text("no step")
    text = said(folder)
    assert "At step 10:" in text and "b" * 4000 in text and "b" * 4001 not in text
    assert "1,000 more characters in samples/10.txt" in text and "aaa" not in text


@pytest.mark.parametrize(
    "name, content",
    [
        ("metrics.jsonl", "{}\n{}\n"),
        ("summary.json", "[]"),
        ("goodput.json", '{"seconds": {}}'),
        ("environment.json", '{"starts": 3}'),
        ("environment.json", '{"starts": [{"devices": "cpu"}]}'),
    ],
)
def test_damaged_files_are_named(run, name, content):
    (run / name).write_text(content)
    with pytest.raises(StorageError, match=name):
        page.report(run)


def test_what_is_neither_a_run_nor_a_sweep(tmp_path, capsys):
    for place in (tmp_path, tmp_path / "nowhere"):
        assert launch.main(["report", f"--workdir={place}"]) == 2
        error = capsys.readouterr().err
        assert "holds no sweep and no run" in error and "sweep.json" in error and "config.json" in error
    assert not list(tmp_path.iterdir())
