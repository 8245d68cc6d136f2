"""``benchmarks.growth``: a point is measured for real, slopes are those of power laws, and failures stand in the table."""

import pytest

from benchmarks.growth import __main__ as growth
from benchmarks.growth import axes, page

MACHINE = {"cores": 2, "cpu": "CPU", "gpu": "", "packages": {"jax": "1"}, "date": "today"}


def found(x, power):
    return {"step": x**power, "memory": 3 * x, "compile": 5.0, "flops": x**1.5, "bytes": 7 * x, "loss": 1.0}


@pytest.fixture
def results():
    points = {str(x): found(x, 2) for x in (1, 2, 4)} | {"8": {"error": "killed"}}
    return {"machine": MACHINE, "axes": {"context": points, "layers, scanned": {"2": found(2, 1), "4": found(4, 1)}}}


def test_slopes_of_power_laws(results):
    lines = page.table(results).splitlines()
    assert "| **context: slope, in brackets theory's** | **2.00** (1.50) | **1.00** (1.00) | **0.00** |" in lines
    assert "| context 8 | – | – | – |" in lines
    assert any(line.startswith("| **layers, scanned: slope") and "**1.00** (1.50)" in line for line in lines)


def test_the_page_gets_the_table_and_a_picture(results, tmp_path, monkeypatch):
    document = tmp_path / "page.md"
    document.write_text("a\n<!-- bench:growth -->\nold\n<!-- /bench:growth -->\nb\n")
    monkeypatch.setattr(page, "DOCUMENT", document)
    monkeypatch.setattr(page, "PICTURE", tmp_path / "growth.svg")
    page.write(results)
    assert "| context 4 | 16 |" in document.read_text() and "old" not in document.read_text()
    assert "<svg" in (tmp_path / "growth.svg").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"page.md", "growth.svg"}


def test_a_point_is_measured(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # one device, where these tests have several
    values = growth.point("context", 16, False, True)
    assert values["step"] > 0 and values["compile"] > 0 and values["loss"] > 0
    assert values["memory"] > axes.FLOAT * 3 * 64 * 64  # parameters and two moments of more than a matrix


def test_a_point_that_fails_says_why():
    assert "invalid literal" in growth.point("context", "many", False, True)["error"]


def test_flops_are_quadratic_in_a_long_context():
    short, twice = (axes.step_flops(axes.config_of("context", t, False, False)) for t in (2**17, 2**18))
    assert 3.9 < twice / short < 4
