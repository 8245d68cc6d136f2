"""``python -m experiments``: what it prints, and that it writes only what it is asked to keep."""

import dataclasses
import sys

import pytest

import experiments.__main__ as command
import launch
from gpt_jax.errors import RESUMABLE
from gpt_jax.storage import write_json
from gpt_jax.study.compare import claims
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.report import page, scoreboard
from gpt_jax.study.sweep.sweep import jobs, load
from gpt_jax.train.run import check_tuning
from tests.study.report.test_report import trained

KEPT = [0.2, 0.21, 0.19]


@pytest.fixture
def reproduce(tmp_path, monkeypatch, capsys):
    """The command in a folder where "mine" is a finished sweep with a kept result; returns what it prints."""
    (tmp_path / "sweeps").mkdir()
    results = trained(tmp_path / "sweeps" / "mine")
    page.write(results)
    claims.write(results.workdir, [check_claim("gain", "0.2 (somebody)", KEPT, least=0.1)], {})
    for name, path in {"HERE": "", "RESULTS": "results", "SCOREBOARD": "SCOREBOARD.md", "README": "README.md"}.items():
        monkeypatch.setattr(command, name, tmp_path / path)
    monkeypatch.setattr(command, "NAMES", ("mine",))
    (tmp_path / "README.md").write_text(f"before\n{command.BEGIN}\n{command.END}\nafter\n")
    scoreboard.keep(results, tmp_path / "results")
    command.write_table()
    claims.write(results.workdir, [check_claim("gain", "0.2 (somebody)", [0.01, 0.011, 0.012], least=0.1)], {})
    given = []
    monkeypatch.setattr(launch, "main", lambda words: given.append(words) or 0)

    def run(*words, code=0):
        monkeypatch.setattr(sys, "argv", ["experiments", f"--workdir={tmp_path / 'sweeps'}", *words])
        assert command.main() == code
        return capsys.readouterr().out

    run.given = given
    return run


def files(folder) -> dict:
    paths = (path for path in folder.rglob("*") if path.is_file() and "sweeps" not in path.parts)
    return {path: path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    "words, code", [(("mine",), 1), (("mine", "--", "--config.train.steps=6"), 0)], ids=["plain", "overrides"]
)
def test_a_rerun_is_compared_and_writes_nothing(reproduce, tmp_path, words, code):
    before = files(tmp_path)
    said = reproduce(*words, code=code)
    assert "CHANGED    gain: fail, 0.011" in said and "kept: pass, 0.2 [" in said
    assert reproduce.given[0][3:] == list(words[2:])
    assert files(tmp_path) == before and len(before) >= 4


def test_the_same_verdict_is_as_before(reproduce, tmp_path):
    claims.write(
        tmp_path / "sweeps" / "mine", [check_claim("gain", "0.2 (somebody)", [0.3, 0.31, 0.29], least=0.1)], {}
    )
    assert "as before  gain: pass, 0.3 [" in reproduce("mine")


def test_a_claim_that_is_no_longer_made_is_a_change(reproduce, tmp_path):
    claims.write(tmp_path / "sweeps" / "mine", [check_claim("loss", "0.2 (somebody)", KEPT, least=0.1)], {})
    said = reproduce("mine", code=1)
    assert "new        loss: pass, 0.2 [" in said and "CHANGED    gain: none; kept: pass, 0.2 [" in said


def test_a_rerun_is_kept_when_asked(reproduce, tmp_path):
    assert "wrote " in reproduce("--keep", "mine")
    assert scoreboard.read(tmp_path / "results" / "mine.json").findings[0].verdict == "fail"
    assert "| gain | 0.2 (somebody) | at least 0.1 | 0.011 " in (tmp_path / "SCOREBOARD.md").read_text()
    assert (tmp_path / "README.md").read_text().startswith("before\n")


def test_overrides_are_never_kept(reproduce, tmp_path):
    before = files(tmp_path)
    with pytest.raises(SystemExit) as refusal:
        reproduce("--keep", "mine", "--", "--config.train.steps=6")
    assert refusal.value.code == 2 and files(tmp_path) == before and not reproduce.given


def test_a_signal_ends_the_whole_list(reproduce, monkeypatch):
    monkeypatch.setattr(command, "NAMES", ("mine", "other"))
    begun = []
    monkeypatch.setattr(launch, "main", lambda words: begun.append(words) or RESUMABLE)
    monkeypatch.setattr(sys, "argv", ["experiments", "mine", "other"])
    assert command.main() == RESUMABLE and len(begun) == 1


def test_the_cheapest_run_where_none_is_named(reproduce, tmp_path, monkeypatch):
    one = scoreboard.read(tmp_path / "results" / "mine.json")
    for name, seconds in {"mine": 900.0, "dear": 5000.0, "cheap": 600.0, "long": 6000.0}.items():
        kept = dataclasses.replace(one, name=name, seconds=seconds)
        write_json(tmp_path / "results" / f"{name}.json", dataclasses.asdict(kept))
    monkeypatch.setattr(command, "NAMES", ("mine", "dear", "cheap", "long", "never_run"))
    assert command.cheap() == ["cheap", "mine"]
    monkeypatch.setattr(command, "CHEAP", 6500.0)
    assert command.cheap() == ["cheap", "dear", "mine"]


@pytest.mark.parametrize("name", command.NAMES)
def test_the_settings_of_its_runs_go_together(name):
    planned = jobs(load(command.HERE / f"{name}.py"))
    assert planned
    for job in planned:
        check_tuning(job.config)


@pytest.mark.parametrize("name", [path.stem for path in sorted(command.RESULTS.glob("*.json"))])
def test_a_kept_result_keeps_the_protocol(name):
    """Those from before there was one have no record."""
    kept = scoreboard.read(command.RESULTS / f"{name}.json")
    assert kept and (not kept.record or not scoreboard.verify(kept))
