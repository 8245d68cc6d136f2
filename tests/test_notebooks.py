"""The notebooks run from their first cell to their last, and are kept with what they showed."""

import os
from pathlib import Path

import pytest

from tests import xla
from tests.train import tiny

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples" / "first_look.ipynb"
MOST_BYTES = 500_000
SIZES = {"model.layers": 1, "model.width": 16, "model.heads": 2, "model.context": 64, "data.tokenizer": "bytes"}
LENGTHS = {"train.steps": 4, "train.eval_every": 4, "train.eval_batches": 1, "optim.warmup": 2}


def outputs(notebook) -> list:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def shown(notebook, kind: str) -> str:
    return "".join(str(output.data[kind]) for output in outputs(notebook) if kind in output.get("data", {}))


def printed(notebook) -> str:
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch):
    """With other values in the cell that is tagged "parameters"."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    data = {"data.source": f"text(path={str(tiny.write_text(tmp_path))!r})", "data.cache": str(tmp_path / "cache")}
    values = {"preset": "quickstart", "knobs": SIZES | LENGTHS | data, "arm_steps": 2, "seeds": (0, 1), "runs": "runs"}
    assert all(f"{name} = " in cell.source for name in values)
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("XLA_FLAGS", xla.flags())
    client = nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    html = shown(notebook, "text/html")
    assert html.count("data:image/png") == 2 and "validation loss" in html and "verdict" in html and ">class <" in html
    assert "4/4" in printed(notebook) and "MainThread" not in printed(notebook)


def test_it_is_kept_with_its_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert NOTEBOOK.stat().st_size < MOST_BYTES
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    html = shown(notebook, "text/html")
    assert html.count("data:image/png") == 2 and "verdict" in html
    assert str(ROOT) not in NOTEBOOK.read_text("utf-8")
