"""Every example of docs/api.md runs as it is printed, on a small run and a small model of Hugging Face's."""

import importlib.util
import re
from pathlib import Path

import pytest

import gpt_jax
from gpt_jax import configs
from gpt_jax.convert import exporting
from tests import xla
from tests.train import tiny

DOC = Path(__file__).resolve().parents[1] / "docs" / "api.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", DOC.read_text("utf-8"), re.MULTILINE | re.DOTALL)
SMALL = tiny.KNOBS | {"model.context": 32, "train.batch": 8, "train.steps": 4, "sample.prompts": ("def ",)}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A directory with ``runs/q`` and ``models/gpt2``, where presets are small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", xla.flags())  # of a sweep's workers
    source = f"text(path={str(tiny.write_text(tmp_path))!r})"
    load = configs.load

    def small(name):
        made = load(name)
        made.update_from_flattened_dict(SMALL | {"data.source": source, "data.cache": str(tmp_path / "cache")})
        return made

    monkeypatch.setattr(configs, "load", small)
    gpt_jax.train("quickstart", "runs/q")
    pretrained(tmp_path / "models" / "gpt2")
    return tmp_path


def pretrained(folder: Path) -> None:
    """Random weights by transformers, or the run's own where that is not installed."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        exporting.export_run(gpt_jax.load("runs/q").config, Path("runs/q"), folder, None, exporting.Form("gpt2"))
        return
    import transformers

    sizes = {"vocab_size": 64, "n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).save_pretrained(folder)


def test_every_example_runs(place, capsys):
    assert len(EXAMPLES) >= 8
    names: dict = {}
    for number, example in enumerate(EXAMPLES):
        exec(compile(example, f"example {number + 1} of {DOC.name}", "exec"), names)
    said = capsys.readouterr().out
    assert "Model('q': " in said and "difference from learned" in said and "--- sample 3" in said
    assert (place / "attention.png").stat().st_size > 1000
    results = names["results"]
    assert results.complete and set(results.values()) == {"learned", "rope"}
    assert "2 arms x 2 seeds, 4 of 4 runs done" in repr(results)
    assert "<table>" in results._repr_html_() and ">rope<" in results._repr_html_()
