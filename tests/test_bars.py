"""Bars are drawn where somebody watches, and nowhere else."""

import io
import sys
import types
from pathlib import Path

import pytest

from gpt_jax import bars, notebook


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def kernel(monkeypatch):
    """As within the kernel of a notebook without widgets."""
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(bars.importlib.util, "find_spec", lambda name: None)


def drawn(monkeypatch, stream) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    for _ in bars.bar(range(3), desc="counting"):
        pass
    return stream.getvalue()


def test_a_closed_stream_gets_none(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert list(bars.bar(range(3))) == [0, 1, 2] and not bars.stacked()


def test_a_log_gets_no_bar(monkeypatch):
    assert drawn(monkeypatch, io.StringIO()) == ""
    assert not notebook.running() and not bars.stacked()


def test_a_terminal_gets_bars(monkeypatch):
    assert "counting" in drawn(monkeypatch, Terminal()) and bars.stacked()


def test_a_notebook_gets_one(monkeypatch, kernel):
    assert "counting" in drawn(monkeypatch, io.StringIO())
    assert notebook.running() and not bars.stacked() and not bars.watched(io.StringIO())


def test_what_a_notebook_shows_is_escaped():
    shown = notebook.table([["a<b"], ["<script>"]]) + notebook.text("<pre>")
    assert "&lt;script&gt;" in shown and "a&lt;b" in shown and "<script>" not in shown


def test_no_other_module_draws_them():
    others = [path for path in Path(bars.__file__).parent.rglob("*.py") if "tqdm" in path.read_text("utf-8")]
    assert others == [Path(bars.__file__)]
