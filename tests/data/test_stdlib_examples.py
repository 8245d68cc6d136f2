"""Examples made of the standard library: functions with their summaries, and with the package they are from."""

import ast
import importlib
import inspect
import re
from collections import Counter

import pytest

from gpt_jax import registry
from gpt_jax.data.open import open_data
from gpt_jax.data.rows.functions import in_file
from tests.data.refusals import refused


@pytest.fixture(scope="module")
def functions_cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def source(make_config, functions_cache):
    return lambda call: registry.build("data.sources", call, make_config(cache=functions_cache))


def sides_of(made):
    return [{row["file"] for row in side} for side in (made.train, made.valid)]


def test_summaries_are_those_of_the_interpreter(source):
    made = source("docstrings(packages=['json', 'email', 'textwrap'])")
    train, valid = sides_of(made)
    assert valid and not train & valid
    rows = [row for side in (made.train, made.valid) for row in side if row["file"] == "textwrap.py"]
    summaries = {row["completion"] for row in rows}
    textwrap = importlib.import_module("textwrap")
    module = [row for row in rows if "(self" not in row["prompt"].splitlines()[0]]
    assert len(module) >= 3 and len(summaries) >= 5
    for row in module:
        function = getattr(textwrap, row["prompt"].removeprefix("def ").partition("(")[0])
        summary = inspect.getdoc(function).splitlines()[0]
        assert row["completion"] == summary and summary not in row["prompt"]
    for row in rows:
        ast.parse(row["prompt"] if row["prompt"].count("\n") > 1 else row["prompt"] + "    pass")


FILE = '''
def one(a, b=(1,
              2)):
    """Says one thing.

    And more.
    """
    return a  # kept


class Thing:
    async def two(self):
        r"""Says two."""
        def inner():
            """Is part of it."""

    def three(self): "on the same line"

    def four(self):
        return 4
'''


def test_functions_of_a_file():
    found = list(in_file("f.py", FILE))
    assert [(function.text.split("(")[0], function.summary) for function in found] == [
        ("def one", "Says one thing."),
        ("async def two", "Says two."),
        ("def three", ""),
        ("def four", ""),
    ]
    assert found[0].text == "def one(a, b=(1,\n              2)):\n    return a  # kept"
    assert "Is part of it" in found[1].text and "Says two" not in found[1].text
    assert list(in_file("f.py", "def broken(:")) == []


def test_packages_are_masked_and_files_are_apart(source):
    call = "which_package(packages=['json', 'logging', 'http'])"
    made = source(call)
    train, valid = sides_of(made)
    assert valid and not train & valid
    for row in (*made.train, *made.valid):
        assert row["file"].startswith(("json/", "logging/", "http/")[row["class"]])
        assert not re.search("json|logging|http", row["text"], re.IGNORECASE) and 60 <= len(row["text"]) <= 400
    assert {row["class"] for row in made.valid} == {0, 1, 2}
    few = source(call.replace("(p", "(count=9, p"))
    assert Counter(row["class"] for row in few.train) == {0: 3, 1: 3, 2: 3}
    assert few.train == made.train[:9] and few.valid == made.valid and few.digest != made.digest


def test_all_packages(source):
    made = source("which_package()")
    assert {row["class"] for row in made.train} == set(range(8)) == {row["class"] for row in made.valid}


def test_they_open(make_config, functions_cache):
    call = registry.examples("data.sources", "docstrings")[0]
    data = open_data(make_config(source=call, tokenizer="bytes", context=512, cache=functions_cache))
    assert data.train.batches(2, 0)[0]["weights"].sum() > 20


@pytest.mark.parametrize(
    "call, message",
    [
        ("which_package(packages=['json', 'nonesuch'])", "comes without nonesuch"),
        ("docstrings(packages=['nonesuch'])", "comes without nonesuch"),
        ("which_package(packages=['json', 'textwrap'])", "textwrap has 1 file"),
        ("docstrings(packages=['textwrap'])", "1 files have functions"),
    ],
)
def test_packages_that_will_not_do(call, message, make_config, functions_cache):
    refused(make_config(source=call, tokenizer="bytes", cache=functions_cache), message)
