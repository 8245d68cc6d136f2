"""The harness of the benchmarks: fair turns, honest failures, tables in their places."""

import json
import sys

import pytest

from benchmarks import flags, report, table
from benchmarks.shapes import SHAPES
from benchmarks.worker import Worker, seconds
from tests import xla


def test_contestants_take_turns(monkeypatch):
    monkeypatch.setattr(report, "PAUSE", 0)
    order = []

    def measure(name, time):
        return lambda: order.append(name) or time

    times = report.interleave({"a": measure("a", 1.0), "b": measure("b", 3.0)}, rounds=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert times == {"a": [1.0] * 3, "b": [3.0] * 3}


def test_the_ratio_is_within_rounds():
    """The machine halves its speed in the second round; the ratio does not notice."""
    assert report.ratio([1.0, 2.0, 1.0], [1.5, 3.0, 1.5])["rounds"] == [1.5, 1.5, 1.5]


def test_products_carry_the_work_of_the_linear_layers():
    """Each product occurs forward, for the input's gradient and for the weight's: equal work, three shapes."""
    for shape in SHAPES.values():
        work = {(shape.width, shape.vocab), (shape.width, shape.width), (shape.width, 4 * shape.width)}
        counted = {rows * inner * columns for rows, inner, columns in shape.products()}
        assert counted == {shape.tokens * a * b for a, b in work}


def test_seconds_counts_calls():
    calls = []
    assert 0 < seconds(lambda: calls.append(0), at_least=0.01) < 0.01
    assert len(calls) > 1


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """A worker whose commands answer, print, fail and die."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "fake.py").write_text(
        "import os, sys\n"
        f"sys.path.insert(1, {str(report.RESULTS.parents[1])!r})\n"
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('w', {str(report.RESULTS.parent / 'worker.py')!r})\n"
        "w = importlib.util.module_from_spec(spec); spec.loader.exec_module(w)\n"
        "def fail(): raise ValueError('no such thing')\n"
        "def talk(): print('noise'); return 1\n"
        "w.serve({'add': lambda a, b: a + b, 'talk': talk, 'fail': fail, 'die': lambda: os._exit(3)})\n"
    )
    monkeypatch.setattr("benchmarks.worker.ROOT", tmp_path)
    with_worker = Worker("fake", "fake")
    yield with_worker
    with_worker.close()


def test_worker_answers_and_reports(worker):
    assert worker("add", a=1, b=2) == 3
    assert worker("talk") == 1
    with pytest.raises(RuntimeError, match="fake: ValueError: no such thing"):
        worker("fail")
    assert worker("add", a=2, b=2) == 4
    with pytest.raises(RuntimeError, match="exit code 3"):
        worker("die")


def test_tables_go_between_their_markers(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    machine = {"cores": 2, "cpu": "CPU", "gpu": "", "packages": {"jax": "1"}, "date": "today"}
    steps = {"gpt_jax": {"median": 0.02}, "peer": {"median": 0.05}}
    small = {"step_seconds": steps, "speed_up": {"peer": {"median": 2.5}}, "share_of_gemm": 0.5, "data_share": 0.001}
    small |= {"step_flops": 1e9, "gemm_flops": {"gpt_jax": {"median": 1e11}}}
    report.write("train_step", {"machine": machine, "shapes": {"small": small}})
    speeds = {"seconds": {"gpt_jax": {"median": 2.0}}, "speed_up": {}, "weights_seconds": {"median": 0.01}}
    values = {"machine": machine, "shape": "tiny", "beams": 1, "prompt": 4, "new": 100, "batches": {"8": speeds}}
    (tmp_path / "decode.json").write_text(json.dumps(values))
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- bench:train_step -->\nold\n<!-- /bench:train_step -->\nb\n")
    monkeypatch.setattr(sys, "argv", ["table", str(readme)])
    table.main()
    text = readme.read_text()
    assert text.startswith("a\n<!-- bench:train_step -->\n| one training step | small |\n")
    assert text.endswith("<!-- /bench:train_step -->\nb\n")
    assert "| gpt_jax | 20 ms |" in text and "**2.50x**" in text and "old" not in text
    assert "| at most, if a step were its products alone | 5.00x |" in text
    decoding = table.decode(report.read("decode"))
    assert "| gpt_jax | 400 |" in decoding and "the products with the weights alone | 800 |" in decoding
    assert table.decode(values | {"beams": 4}).startswith("| beam search with 4 beams, new tokens/s | batch 8 |")
    table.main()
    assert readme.read_text() == text


def test_what_a_gpu_gave_stands_beside_what_a_cpu_did(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    found = {"1": {"median": 0.002}, "16": {"median": 0.0004}}
    for gpu in ("", "Some GPU"):
        machine = {"cores": 2, "cpu": "CPU", "gpu": gpu, "packages": {"jax": "1"}, "date": "today"}
        report.write("population", {"machine": machine, "dtype": "bfloat16", "models": {"small": found}})
    assert {path.name for path in tmp_path.iterdir()} == {"population.json", "population_gpu.json"}
    text = table.TABLES["population_gpu"](report.read("population_gpu"))
    assert text.startswith("| ms a step and run | one by one | 16 at once |\n")
    assert "| small | 2 | 0.4 |" in text and "bfloat16, Some GPU; jax 1" in text
    assert "2 cores of CPU" in table.population(report.read("population"))


def test_settings_are_measured_beside_the_default(monkeypatch, capsys, tmp_path):
    """One that XLA does not know is refused, and the others go on."""
    monkeypatch.setattr(report, "PAUSE", 0)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(flags, "ROUND_SECONDS", 0)
    monkeypatch.setenv("XLA_FLAGS", xla.flags())
    unknown = {"XLA_FLAGS": "--xla_cpu_no_such_flag=1"}
    monkeypatch.setattr(flags, "SETTINGS", {"unknown": unknown, "a thread": {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "1"}})
    monkeypatch.setattr(sys, "argv", ["flags", "--shapes", "toy", "--rounds", "1"])
    flags.main()
    found = report.read("flags")["shapes"]["toy"]
    assert "exit code" in found["unknown"]["refused"]
    assert found["a thread"]["losses"] == 0 and found["a thread"]["cpu_seconds"]["median"] > 0
    assert "best: a thread" in capsys.readouterr().out
    rows = table.flags(report.read("flags")).splitlines()
    assert rows[2].startswith("| unknown | refused |") and rows[3].startswith("| a thread | ")


def test_a_setting_that_costs_nowhere_and_saves_somewhere_becomes_the_default(monkeypatch):
    monkeypatch.setattr(flags, "SETTINGS", {"a": {}, "b": {}})

    def found(time, cpu):
        return {name: {"relative": {"median": ratio}} for name, ratio in (("seconds", time), ("cpu_seconds", cpu))}

    saves = {"small": {"a": found(0.99, 1.0), "b": {"refused": "why"}}, "base": {"a": found(0.9, 0.95)}}
    assert (
        flags.verdict(saves)
        == "best: a, at small 0.99 (1.00), base 0.90 (0.95) of the default's time (CPU time): make it the default"
    )
    assert flags.verdict({**saves, "large": {"a": found(1.0, 1.05)}}).endswith("the default stays")
    assert flags.verdict({"small": {"a": found(0.9, 0.98)}}).endswith("the default stays")
