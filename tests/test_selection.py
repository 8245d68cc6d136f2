"""What is left out of a run of the tests."""

import re
import shutil
import subprocess
import sys

import pytest

from tests import selection

MADE = """
import pytest

@pytest.mark.every(3)
@pytest.mark.parametrize("case", range(8))
def test_table(case):
    pass

@pytest.mark.parametrize("case", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_long(case):
    pass
"""
CONFTEST = """
from tests import selection

def pytest_addoption(parser):
    parser.addoption("--all", action="store_true")

def pytest_collection_modifyitems(config, items):
    selection.select(config, items)
"""


@pytest.fixture
def collected(tmp_path):
    (tmp_path / "tests").mkdir()
    shutil.copy(selection.__file__, tmp_path / "tests" / "selection.py")
    (tmp_path / "tests" / "conftest.py").write_text(CONFTEST)
    (tmp_path / "tests" / "test_made.py").write_text(MADE)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers =\n    slow\n    every(k)\n")

    def collect(*arguments: str) -> list[str]:
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
        said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100).stdout
        return re.findall(r"::(test_\S+)", said)

    return collect


def test_slow_ones_and_most_of_a_table_are_left_out(collected):
    found = collected()
    table = [int(name[11:-1]) for name in found if name.startswith("test_table")]
    assert 2 <= len(table) <= 3 and {after - before for before, after in zip(table, table[1:], strict=False)} == {3}
    assert found[len(table) :] == ["test_long[1]"]


@pytest.mark.parametrize("named", [["--all"], ["-k", "test"]])
def test_all_can_be_asked_for(collected, named):
    assert len(collected(*named)) == 10


def test_a_test_that_is_named_is_run(collected):
    assert collected("tests/test_made.py::test_long[2]") == ["test_long[2]"]
    assert len(collected("tests/test_made.py::test_table")) == 8
