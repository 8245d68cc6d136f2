"""What docs/serving.md prints works: its commands serve what they say, and its snippets speak to a server."""

import importlib
import re
import signal

import openai
import pytest

from gpt_jax.commands.flags import Flags
from gpt_jax.errors import UserError
from gpt_jax.main import main
from gpt_jax.registry import lookup
from gpt_jax.serve.moderation import filters
from gpt_jax.serve.server import Server
from gpt_jax.serve.settings import Bounds
from tests.printed import ROOT, _module, _pip
from tests.serve import served

PAGE = (ROOT / "docs" / "serving.md").read_text("utf-8")
COMMANDS = re.findall(r"^    gpt-jax serve (.*)$", PAGE, re.MULTILINE)
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands_are_read():
    assert len(COMMANDS) >= 5
    for command in COMMANDS:
        flags = Flags("serve")
        lookup("commands", "serve")().define(flags)
        assert flags.parse(command.split()).workdir.startswith("runs/")
    assert set(re.findall(r"`--(\w+)", PAGE)) <= set(flags.names())
    assert '    pip install ".[serve]"' in PAGE and not _pip(["pip", "install", ".[serve]"])
    assert not _module(["python", "-m", "benchmarks.serve", "--workdir=runs/q"])


def test_the_snippets_speak_to_a_server(workdirs, tmp_path):
    assert len(SNIPPETS) == 2
    for name, run in (("q", "plain"), ("sft", "chat")):
        (tmp_path / name).symlink_to(workdirs[run])
    with served.serving([tmp_path / "q", tmp_path / "sft"]) as running:
        names = {}
        for snippet in SNIPPETS:
            exec(snippet.replace("http://127.0.0.1:8000", running.url), names)
        assert isinstance(names["client"], openai.OpenAI)


def test_the_filter_file_that_is_shown(tmp_path):
    (rules,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "words.txt").write_text(rules)
    assert [rule.name for rule in filters.read(tmp_path / "words.txt")] == ["line 2", "line 3", "line 4"]


def test_the_bounds_that_are_named():
    bounds = Bounds()
    named = f"messages ({bounds.messages}), texts of a request ({bounds.texts}), stop strings ({bounds.stops} of"
    assert named in PAGE and bounds.body_bytes == 2**20 and "`--queue`" in PAGE


def test_the_command_serves_until_it_is_stopped(workdirs, tmp_path):
    (tmp_path / "key.txt").write_text("secret\n")
    flags = [f"--workdir={workdirs['chat']}", f"--also={workdirs['plain']}", f"--key_file={tmp_path / 'key.txt'}"]
    with served.process(*flags) as (child, url):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0)
        assert {model.id for model in client.models.list()} == {"chat", "plain"}
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0


BAD = {
    "--host=0.0.0.0": "there is no key",
    "--key=a --key_file=b": "cannot be used together",
    "--filter=none.txt": "cannot be read",
    "--port=99999": "out of range",
    "--classifier=none": "none",
    "--also={plain}": "two runs are called",
}


@pytest.mark.parametrize("flags", BAD)
def test_what_cannot_be_served_is_said(flags, workdirs, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = flags.format(plain=workdirs["plain"]).split()
    assert main(["serve", f"--workdir={workdirs['plain']}", "--port=0", *words]) == 2
    assert BAD[flags] in capsys.readouterr().err


def test_a_port_that_is_taken(workdirs, running):
    with pytest.raises(UserError, match="cannot be listened at"):
        Server([], Bounds(), "127.0.0.1", running.server.port)


def test_without_the_packages_it_says_which(workdirs, capsys, monkeypatch):
    real = importlib.import_module

    def without(name, *rest):
        if name == "uvicorn":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    assert main(["serve", f"--workdir={workdirs['plain']}"]) == 2
    assert 'pip install ".[serve]" in the checkout' in capsys.readouterr().err
