"""Files that are damaged, edited by hand or of another encoding are refused by what is wrong with them."""

import json

import pytest

from gpt_jax import api, configs
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.errors import Failure, StorageError, UserError
from gpt_jax.interop import tensors
from gpt_jax.run_directory import previous_config, read_config
from gpt_jax.sample import prompts
from gpt_jax.study.scaling import table
from gpt_jax.study.sweep import Sweep, finished_runs
from gpt_jax.study.sweep import sweep as sweeps
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.train.record import metrics
from gpt_jax.train.starting import places

DEEP = "[" * 100_000
HUGE = "9" * 400  # a whole number that no float is
ARMS = {"one": {}, "two": {"optim.lr": 1e-2}}


@pytest.mark.parametrize(
    "text, said",
    [
        (DEEP, "cannot be read"),
        ("[]", "no sections"),
        ('{"model": 3}', "no sections"),
        ('{"modell": {}}', "did you mean 'model'"),
        ('{"model": {"widht": 3}}', "did you mean 'width'"),
        ('{"model": {"width": [[]]}}', "has the type tuple"),
        ('{"sample": {"prompts": [3]}}', "tuple of str"),
        ('{"model": {"width": 1e400}}', "has the type float"),
    ],
)
def test_a_configuration(text, said, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=said):
        configs.of_run(tmp_path)


SETTINGS = Config.from_dict(base.get_config())
READERS = {
    "of_run": configs.of_run,
    "previous_config": lambda path: previous_config(path, SETTINGS),
    "stored": lambda path: places.stored(path, SETTINGS.to_dict()),
    "find": lambda path: places.find(str(path)),
    "config_of": finished_runs.config_of,
    "load": api.load,
}


def damages():
    """Contents of a config.json, of which a part is not what it should be."""
    whole = SETTINGS.to_dict()
    others = (3, None, [], {"x": 1}, 10**400)
    yield from others
    for section, knobs in whole.items():
        yield from ({**whole, section: other} for other in others)
        yield from ({section: {knob: other}} for knob in knobs for other in others)


@pytest.mark.every(3)
@pytest.mark.parametrize("reader", READERS)
def test_whatever_a_configuration_holds_it_is_read_or_refused(reader, tmp_path):
    refused = 0
    for values in damages():
        (tmp_path / "config.json").write_text(json.dumps(values))
        try:
            READERS[reader](tmp_path)
        except Failure as failure:
            assert failure.where
            refused += 1
    assert refused > 3


def test_a_byte_order_mark_is_skipped(tmp_path):
    text = Config.from_dict(base.get_config()).to_json()
    (tmp_path / "config.json").write_text(text, "utf-8-sig")
    assert read_config(tmp_path) == json.loads(text)
    assert tensors.read_json(tmp_path / "config.json") == json.loads(text)


def test_a_table_of_runs_in_another_encoding(tmp_path):
    (tmp_path / "runs.csv").write_text("name,params,tokens,loss\ncafé,1e5,1e6,3\n", "latin-1")
    with pytest.raises(UserError, match="UTF-8: byte 27 is 0xe9"):
        table.read(tmp_path / "runs.csv")


@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        "3",
        f'{{"final": {{"valid/loss": {HUGE}}}}}',
        f'{{"steps": {HUGE}}}',
        '{"status": 3}',
        '{"final": []}',
        '{"final": {"valid/loss": [1]}}',
        '{"steps": "many"}',
        "{",
    ],
)
def test_a_summary(text, tmp_path):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(StorageError, match="summary.json"):
        metrics.read_summary(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"step": "1", "tokens": 1}',
        '{"step": 1, "tokens": []}',
        f'{{"step": 1, "tokens": 1, "a": -{HUGE}}}',
        DEEP,
    ],
)
def test_a_record(line, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(line + '\n{"step": 1, "tokens": 1}\n')
    with pytest.raises(StorageError, match="line 1 of metrics.jsonl"):
        metrics.read(tmp_path)


@pytest.mark.parametrize("line", [DEEP, '{"ids": [' + "9" * 5000 + "]}"])
def test_a_line_of_prompts(line, tmp_path):
    (tmp_path / "p.jsonl").write_text(line)
    given = {"prompt": None, "prompt_ids": None, "prompts": str(tmp_path / "p.jsonl")}
    with pytest.raises(UserError, match="not JSON"):
        prompts.read_prompts(given, Config.from_dict(base.get_config()).sample, None)


def test_a_file_of_settings_that_exits(tmp_path):
    (tmp_path / "mine.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(UserError, match="raised SystemExit: 3"):
        configs.load(str(tmp_path / "mine.py"))


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The text of a sweep's sweep.json."""
    folder = tmp_path_factory.mktemp("sweep")
    sweep = Sweep(base.get_config(), ARMS, seeds=(0,))
    SweepResults.plan(folder, sweep, sweeps.jobs(sweep), folder / "study.py")
    return json.loads((folder / "sweep.json").read_text())


@pytest.mark.parametrize(
    "name, value",
    [
        ("arms", []),
        ("arms", {}),
        ("runs", {"x": 3}),
        ("seeds", 0),
        ("metric", None),
        ("margin", "0"),
        ("baseline", [1]),
    ],
)
def test_a_sweep(name, value, planned, tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps(planned))
    assert set(SweepResults.read(tmp_path).arms) == set(ARMS)
    (tmp_path / "sweep.json").write_text(json.dumps({**planned, name: value}))
    with pytest.raises(StorageError, match="sweep.json is damaged"):
        SweepResults.read(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps({key: v for key, v in planned.items() if key != name}))
    with pytest.raises(StorageError, match=f"lacks {name}"):
        SweepResults.read(tmp_path)


@pytest.mark.parametrize(
    "name, value",
    [("seeds", (0, "1")), ("seeds", 3), ("arms", {"one": 3}), ("base", []), ("margin", float("nan")), ("halve", ["x"])],
)
def test_an_experiment(name, value):
    with pytest.raises(UserError, match=f"Sweep.{name}"):
        Sweep(**{"base": base.get_config(), "arms": ARMS, name: value})
