"""Every verb reads its flags alike, and says what is wrong with one in the same words."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import launch
from gpt_jax import registry
from gpt_jax.commands.flags import Flags
from gpt_jax.config import Config
from gpt_jax.configs import base

ROOT = Path(__file__).resolve().parents[1]
VERBS = registry.names("commands")
STUDY = """
from gpt_jax.configs import base
from gpt_jax.study.sweep import Sweep

def sweep():
    return Sweep(base=base.get_config(), arms={"one": {}}, seeds=(0,))
"""


def flags_of(verb: str) -> Flags:
    flags = Flags(verb)
    registry.lookup("commands", verb)().define(flags)
    return flags


PATHS = [(verb, name) for verb in VERBS for name in sorted(flags_of(verb)._paths)]
TYPED = [
    (verb, name, flags_of(verb)._known[name].flag_type())
    for verb in VERBS
    for name in flags_of(verb).names()
    if flags_of(verb)._known[name].flag_type() in ("int", "float")
]
WITH_SETTINGS = [verb for verb in VERBS if flags_of(verb)._tables is not None]


@pytest.fixture
def given(tmp_path):
    """given(verb): flags that the verb accepts, as {name: value}."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(Config.from_dict(base.get_config()).to_json())
    (tmp_path / "study.py").write_text(STUDY)
    configs = {"sweep": str(tmp_path / "study.py")}

    def make(verb: str) -> dict[str, str]:
        values = {name: str(run) for name, _ in flags_of(verb)._required}
        return values | ({"config": configs.get(verb, "quickstart")} if "config" in values else {})

    return make


def parse(verb: str, *words: str) -> SimpleNamespace:
    return flags_of(verb).parse(words)


def words_of(values: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def refused(capsys, *argv: str) -> str:
    assert launch.main(list(argv)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and len(said.splitlines()) < 12
    return said


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_lists_every_flag(verb, word, capsys):
    assert launch.main([verb, word]) == 0
    shown = capsys.readouterr().out
    assert all(f"--{name} " in shown for name in flags_of(verb).names())
    assert f"launch.py {verb} " in shown


@pytest.mark.parametrize("verb, name", PATHS)
def test_paths_are_read_in_every_form(verb, name, given, tmp_path, monkeypatch):
    values = given(verb)
    value = values[name] if name in values else str(tmp_path / "x")
    others = words_of({key: v for key, v in values.items() if key != name})
    listed = tmp_path / "flags.txt"
    listed.write_text("\n".join([*others, f"--{name}={value}"]))
    if value.startswith("/"):
        monkeypatch.setenv("HOME", str(Path(value).parent))
    forms = [[f"--{name}={value}"], [f"--{name}", value], [f"-{name}={value}"], [f"--{name}=~/{Path(value).name}"]]
    for form in forms if value.startswith("/") else forms[:3]:
        assert getattr(parse(verb, *others, *form), name if name != "config" else "config_name") == value
    assert getattr(parse(verb, f"--flagfile={listed}"), name if name != "config" else "config_name") == value


@pytest.mark.parametrize("verb, name", PATHS)
@pytest.mark.parametrize("value, word", [("gs://bucket/run", "gs://bucket/run is an address"), (" ", "empty path")])
def test_a_path_that_is_none_is_refused(verb, name, value, word, given, capsys):
    said = refused(capsys, verb, *words_of(given(verb) | {name: value}))
    assert word in said and f"--{name}" in said


@pytest.mark.parametrize("verb", VERBS)
def test_a_required_flag_without_value_or_missing_is_named(verb, given, capsys):
    for name in given(verb):
        others = {key: value for key, value in given(verb).items() if key != name}
        assert f"--{name} is missing" in refused(capsys, verb, *words_of(others))
        assert f"--{name} is given no value" in refused(capsys, verb, *words_of(others), f"--{name}")
        if name != "config":
            assert f"--{name}" in refused(capsys, verb, *words_of(others), f"--{name}=")


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_flag_is_refused_with_the_nearest(verb, given, capsys):
    values = given(verb)
    for name in values:
        slip = name[:-1] + name[-1] * 2
        said = refused(capsys, verb, *words_of(values), f"--{slip}=x")
        assert f"there is no flag --{slip}" in said and f"did you mean --{name}?" in said
    assert "'stray' is not a flag" in refused(capsys, verb, *words_of(values), "stray")
    assert "there is no flag --zzzz" in refused(capsys, verb, *words_of(values), "--zzzz=1")


@pytest.mark.parametrize("verb, name, kind", TYPED)
def test_a_flag_of_another_type_is_named_with_its_value_and_type(verb, name, kind, given, capsys):
    said = refused(capsys, verb, *words_of(given(verb)), f"--{name}=it's many")
    assert f"--{name}=it's many" in said and {"int": "an integer", "float": "a number"}[kind] in said


def test_a_choice_lists_its_options(given, capsys):
    said = refused(capsys, "export", *words_of(given("export")), "--dtype=int8")
    assert "--dtype=int8" in said and "float32, bfloat16, float16" in said


SETTINGS = {
    "--config.train.lr=1e-3": ["no setting --config.train.lr", "did you mean --config.optim.lr?"],
    "--config.train.stesp=3": ["no setting --config.train.stesp", "did you mean --config.train.steps?", "accumulate"],
    "--config.trian.steps=3": ["did you mean --config.train.steps?"],
    "--config.train=3": ["--config.train is a section", "accumulate", "for example --config.train.accumulate=1"],
    "--optim.learning=3": ["no setting --optim.learning"],
    "--lr=1e-3": ["no flag --lr", "did you mean --config.optim.lr?"],
    "--config.optim.lr=it's fast": ["--config.optim.lr=it's fast is not a number", "such as"],
    "--config.train.steps=1.5": ["--config.train.steps=1.5 is not an integer"],
    "--config.train.tensorboard=maybe": ["--config.train.tensorboard=maybe is not true or false"],
    "--config.optim.lr": ["--config.optim.lr is given no value"],
    f"--config.model.bias={'-' * 3000}1": ["--config.model.bias=---", "is nested too deep"],
}


@pytest.mark.parametrize("word", SETTINGS, ids=lambda word: word[:40])
@pytest.mark.parametrize("verb", [verb for verb in WITH_SETTINGS if verb != "import"])
def test_a_wrong_setting_is_named_with_what_is_right(verb, word, given, capsys):
    said = refused(capsys, verb, *words_of(given(verb)), "--config.train.batch=8", word)
    assert all(part in said for part in SETTINGS[word])


@pytest.mark.parametrize("verb", [verb for verb in WITH_SETTINGS if verb != "import"])
def test_settings_are_read_in_every_form(verb, given):
    words = [
        "--config.optim.lr",
        "-1.5",
        "--config.model.scan",
        "--noconfig.model.tied",
        "--noconfig.model.bias",
        "--config.data.source=text('x')",
    ]
    config = parse(verb, *words_of(given(verb)), *words).config
    assert (config.optim.lr, config.model.scan, config.model.tied, config.model.bias) == (-1.5, True, False, False)
    assert config.data.source == "text('x')"


def test_verbs_without_settings_refuse_them(given, capsys):
    for verb in set(VERBS) - set(WITH_SETTINGS):
        assert "--config.optim.lr" in refused(capsys, verb, *words_of(given(verb)), "--config.optim.lr=3")


def test_a_flagfile_that_is_missing_is_named(capsys):
    assert "/no/file" in refused(capsys, "train", "--flagfile=/no/file")


def test_a_closed_pipe_is_no_bug():
    command = f"{sys.executable} launch.py train --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 141 and not done.stderr


def test_settings_of_an_import_have_no_prefix(given, capsys):
    assert parse("import", *words_of(given("import")), "--optim.lr=0.5").optim.lr == 0.5
    said = refused(capsys, "import", *words_of(given("import")), "--optim.lr=fast")
    assert "--optim.lr=fast is not a number" in said
