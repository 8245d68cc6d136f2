"""The report of a sweep's directory: the page and the tables."""

import csv
import dataclasses
import html.parser
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import launch
from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.storage import write_json
from gpt_jax.study.report import curves, hyperparameters, page
from gpt_jax.study.sweep import Sweep
from gpt_jax.study.sweep import sweep as sweeps
from gpt_jax.study.sweep.arms import grid
from gpt_jax.study.sweep.results import FAILURE, SweepResults
from gpt_jax.train.record.metrics import MetricsLog, read, summarise, write_summary

EFFECT = {"plain": 0.0, "better & <bold>": -0.2, "noise": 0.0}
STEPS = range(10, 101, 10)


def trained(folder: Path, without: tuple[str, ...] = ()) -> SweepResults:
    """A sweep whose runs have the files that training leaves, with losses of our choice."""
    c = base.get_config()
    c.data.update(source="markov()", tokenizer="none")
    c.train.steps = 100
    rates = dict(zip(EFFECT, (1e-4, 2e-4, 3e-4), strict=True))
    arms = {name: {"optim.lr": rate} for name, rate in rates.items()}
    sweep = Sweep(c, arms, seeds=(0, 1, 2, 3), question="Is it better?\n\nA longer explanation.")
    planned = sweeps.jobs(sweep)
    source = folder.with_name("mine.py")
    source.write_text("# the text of the experiment")
    overrides = ("--config.train.steps=100", "--config.model.mlp=a b")
    command = ("python", "launch.py", "sweep", "--config=mine.py", *overrides)
    results = SweepResults.plan(folder, sweep, planned, source, command)
    random = np.random.default_rng(0)
    for job in planned:
        if job.arms[0] in without:
            continue
        directory = results.directory(job.id)
        directory.mkdir(parents=True)
        write_json(directory / "config.json", job.config.to_dict())
        write_json(directory / "environment.json", {"starts": [{"host": "here", "pid": job.seed}]})
        log = MetricsLog(directory, -1)
        for step in STEPS:
            loss = 3 - step / 100 + 0.1 * job.seed + EFFECT[job.arms[0]] + 0.01 * random.standard_normal()
            log.write(step, {"tokens": 64 * step, "valid/loss": loss, "speed/tokens_per_second": 1000.0})
        log.close()
        facts = {"status": "done", "steps": 100, "tokens": 6400, "flops": 6.4e9, "seconds": 9.0}
        facts |= {"training_seconds": 6.4, "params": 12345}
        write_summary(directory, {**facts, **summarise(read(directory))})
    return results


class Page(html.parser.HTMLParser):
    """Text, tags that were not closed, and everything the page refers to."""

    VOID = {"meta", "br", "path", "use", "rect", "line", "circle"}

    def __init__(self, text: str):
        super().__init__()
        self.open, self.words, self.references, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "xlink:href") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "xlink:href") and value]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_stands_alone_and_says_what_was_found(tmp_path):
    path = page.write(trained(tmp_path))
    shown = Page(path.read_text())
    assert not shown.open and all(reference.startswith("#") for reference in shown.references)
    assert "Is it better?" in shown.text and "A longer explanation." in shown.text
    assert "better & <bold>" in shown.text and shown.tags.count("svg") == 2
    for label in ("steps", "tokens", "training FLOPs", "seconds", "valid/loss, difference from plain"):
        assert label in shown.text
    assert "inconclusive" in shown.text and "environment" in shown.text


def test_the_tables_hold_the_numbers(tmp_path):
    results = trained(tmp_path)
    page.write(results)
    rows = list(csv.DictReader((tmp_path / "verdicts.csv").open()))
    assert [row["verdict"] for row in rows] == ["better", "inconclusive"]
    for row, right in zip(rows, results.comparisons(), strict=True):
        found = [float(row[name]) for name in ("difference", "low", "high", "p_holm")]
        assert found == [right.mean, right.interval.low, right.interval.high, right.p_adjusted]
        assert [row[name] for name in ("level", "seeds", "metric")] == ["0.95", "4", "valid/loss"]
    assert float(rows[0]["difference"]) == pytest.approx(-0.2, abs=0.03) and rows[1]["baseline"] == "plain"
    runs = list(csv.DictReader((tmp_path / "runs.csv").open()))
    assert len(runs) == 12 and {row["status"] for row in runs} == {"done"}
    values = {(row["arm"], int(row["seed"])): float(row["loss"]) for row in runs}
    assert values == {(arm, seed): v for arm, row in results.values().items() for seed, v in row.items()}
    numbers = ("params", "tokens", "flops", "steps", "seconds", "training_seconds")
    assert [float(runs[0][name]) for name in numbers] == [12345, 6400, 6.4e9, 100, 9, 6.4]
    assert not set("–[]") & set((tmp_path / "verdicts.csv").read_text() + (tmp_path / "runs.csv").read_text())
    text = (tmp_path / "verdicts.tex").read_text()
    assert r"better \& <bold>" in text and text.count(r"\\") == 3 and "toprule" in text


def test_what_is_missing_is_empty(tmp_path):
    results = trained(tmp_path, without=("noise",))
    one = dataclasses.replace(results, runs={id: run for id, run in results.runs.items() if run.seed == 0}, seeds=(0,))
    page.write(one)
    (row,) = csv.DictReader((tmp_path / "verdicts.csv").open())
    assert row["low"] == row["high"] == row["deviation"] == row["detectable"] == "" and float(row["difference"]) < 0
    new = [row for row in csv.DictReader((tmp_path / "runs.csv").open()) if row["arm"] == "noise"]
    assert [(row["status"], row["loss"], row["params"], row["seconds"]) for row in new] == [("new", "", "", "")]


def test_another_metric_has_a_column_beside_the_loss(tmp_path):
    results = dataclasses.replace(trained(tmp_path), metric="speed/tokens_per_second")
    page.write(results)
    row = next(csv.DictReader((tmp_path / "runs.csv").open()))
    assert row["speed/tokens_per_second"] == "1000.0" and 1.9 < float(row["loss"]) < 2.1


def test_the_page_says_how_the_sweep_was_made(tmp_path):
    """The command with its overrides, the experiment's text, the shared settings beside base.py, and the arms'."""
    results = trained(tmp_path)
    text = page.write(results).read_text()
    shown = Page(text)
    assert "python launch.py sweep --config=mine.py --config.train.steps=100 '--config.model.mlp=a b'" in shown.text
    assert "# the text of the experiment" in shown.text
    default = base.get_config()
    cells = '<td data-column="{}">{}</td>'.format
    row = cells("shared by all arms", 100) + cells("default (base.py)", default.train.steps)
    assert f"{cells('knob', 'train.steps')}{row}" in text and cells("knob", "model.width") not in text
    assert cells("overrides", "optim.lr = 0.0002") in text
    again = SweepResults.read(tmp_path)
    assert again.command == results.command and dict(again.shared)["train.steps"] == [default.train.steps, 100]


def test_a_directory_of_an_earlier_version_can_be_read(tmp_path):
    trained(tmp_path)
    kept = json.loads((tmp_path / "sweep.json").read_text())
    del kept["shared"], kept["command"]
    (tmp_path / "sweep.json").write_text(json.dumps(kept))
    (tmp_path / "experiment.py").unlink()
    write_json(tmp_path / "dropped.json", {"noise": "worse after 3 seeds"})
    assert "noise: stopped early, worse after 3 seeds" in Page(page.report(tmp_path).read_text()).text


def test_pictures_are_files_too(tmp_path):
    page.write(trained(tmp_path))
    for name in ("differences", "losses"):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert re.search(r"<svg[^>]* viewBox=", (tmp_path / "figures" / f"{name}.svg").read_text())


def test_curves_are_means_of_seeds_on_every_axis(tmp_path):
    name, found = curves.curves(trained(tmp_path))
    curve = found["plain"]
    assert name == "valid/loss" and curve.seeds == 4
    np.testing.assert_array_equal(curve.steps, list(STEPS))
    np.testing.assert_allclose(curve.mean, 3.15 - curve.steps / 100, atol=0.02)
    np.testing.assert_allclose(curve.high - curve.low, 0.3, atol=0.05)
    np.testing.assert_allclose(curve.flops, 1e6 * curve.tokens)
    np.testing.assert_allclose(curve.seconds, curve.tokens / 1000)


def test_an_unfinished_sweep_has_a_report(tmp_path, capsys):
    results = trained(tmp_path, without=("noise",))
    id = next(id for id, entry in results.runs.items() if entry.arms == ("noise",))
    results.directory(id).mkdir(parents=True)
    write_json(results.directory(id) / FAILURE, {"code": 76, "error": "step 3: not finite"})
    assert launch.main(["report", f"--workdir={tmp_path}"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    shown = Page((tmp_path / "report.html").read_text())
    assert "4 of 12 runs are not done" in shown.text and "noise, seed 0: step 3: not finite" in shown.text


def test_nothing_to_report(tmp_path, capsys):
    assert launch.main(["report", f"--workdir={tmp_path}"]) == 2
    assert "holds no sweep" in capsys.readouterr().err


def test_a_metric_that_runs_do_not_have_is_named(tmp_path):
    results = dataclasses.replace(trained(tmp_path), metric="valid/los")
    with pytest.raises(UserError, match="valid/los") as refusal:
        results.values()
    assert "valid/loss" in str(refusal.value)


def test_importance_is_the_share_of_variance():
    random = np.random.default_rng(0)
    first, second = np.repeat(np.arange(4), 4), np.tile(np.arange(4), 4)
    means = 3.0 * first + 1.0 * second
    shares = [hyperparameters.importance(list(groups), means) for groups in (first, second)]
    assert shares[0] == pytest.approx(0.9, abs=0.03) and shares[1] < 0.15
    chance = [hyperparameters.importance(list(first), random.standard_normal(16)) for _ in range(200)]
    assert np.mean(chance) < 0.12 and hyperparameters.importance([0, 1, 2], np.arange(3.0)) == 0
    assert hyperparameters.importance(list(first), np.ones(16)) == 0


def test_a_larger_sweep_shows_its_knobs(tmp_path):
    c = base.get_config()
    c.data.update(source="markov()", tokenizer="none")
    c.model.heads = 2
    arms = grid({"optim.lr": [1e-4, 1e-3, 1e-2, 1e-1], "model.width": [32, 64], "model.mlp": ["gelu", "swiglu"]})
    sweep = Sweep(c, arms, seeds=(0,), baseline=None)
    planned = sweeps.jobs(sweep)
    results = SweepResults.plan(tmp_path, sweep, planned, Path("mine.py"))
    for job in planned:
        directory = results.directory(job.id)
        directory.mkdir(parents=True)
        loss = 3 - math.log10(job.config.optim.lr) + job.config.model.width / 640
        facts = {"status": "done", "steps": 1, "tokens": 1, "flops": 1.0, "seconds": 1.0, "best": {}}
        write_summary(directory, {**facts, "final": {"valid/loss": loss}})
    found = hyperparameters.table(results)
    assert [knob.name for knob in found.knobs][0] == "lr" and found.knobs[0].importance > 0.95
    assert {knob.name: [label for _, label in knob.labels] for knob in found.knobs}["lr"] == [
        "0.0001",
        "0.001",
        "0.01",
        "0.1",
    ]
    assert "Knobs" in page.write(results).read_text() and (tmp_path / "figures" / "knobs.svg").exists()
