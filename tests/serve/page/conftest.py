"""A browser, and a server of three runs: one writes letters without an end, one answers with markup, one has no template."""

import json
import shutil

import pytest

import gpt_jax
import launch
from gpt_jax.run_directory import CONFIG
from tests import browser as browsers
from tests.serve import served
from tests.serve.page import acting
from tests.train import tiny

LETTERS = "the café sat \U0001f600 on a mat.\n"
MARKUP = "<img src=x onerror=document.title='hit'><script>document.title='hit'</script>"
KNOBS = {"data__template": "chatml", "model__position": "rope", "optim__lr": 1e-2, "train__batch": 8}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsers.opened(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    text, rows = folder / "text.txt", folder / "rows.jsonl"
    text.write_text(LETTERS * 200)
    asked = [MARKUP, *("hello" + "!" * i for i in range(20))]
    rows.write_text("".join(json.dumps({"prompt": prompt, "completion": MARKUP}) + "\n" for prompt in asked))
    answers = {"data__source": f"jsonl(path={str(rows)!r})", "data__pack": "segments", "model__layers": 2}
    changes = {
        "letters": {"model__width": 32, "model__context": 512, "train__steps": 24},
        "markup": {**answers, "model__width": 64, "model__context": 256, "train__steps": 80},
    }
    for name, of_run in changes.items():
        assert launch.main(tiny.command(text, folder / name, **KNOBS, **of_run)) == 0
    shutil.copytree(folder / "letters", folder / "plain")
    settings = json.loads((folder / "plain" / CONFIG).read_text())
    settings["data"]["template"] = "plain"
    (folder / "plain" / CONFIG).write_text(json.dumps(settings))
    return {name: folder / name for name in (*changes, "plain")}


@pytest.fixture(scope="session")
def model(runs):
    return gpt_jax.load(runs["letters"])


@pytest.fixture(scope="module")
def running(runs):
    with served.serving(list(runs.values())) as found:
        yield found


@pytest.fixture
def page(browser, running):
    """The page; whatever the browser has to complain about fails the test."""
    yield acting.opened(browser, running.url)
    assert [entry for entry in browser.get_log("browser") if entry["level"] not in ("DEBUG", "INFO")] == []
