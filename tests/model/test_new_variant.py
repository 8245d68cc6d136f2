"""README's "Add your own", done: a copy of sliding.py with a rule of its own, as a file of the folder."""

import importlib
import itertools
import re
import sys
from pathlib import Path

import pytest

from gpt_jax import registry
from gpt_jax.errors import UserError
from gpt_jax.model import attention
from tests import documented
from tests.model import test_contract as contract
from tests.model.variants import calls, config, logits, parameters, tokens

ROOT = Path(__file__).resolve().parents[2]
FIRST = "Reach().seen(slots, positions, segments) & (positions[1] < self.first)"
OWN_RULE = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class WithFirst(Reach):
    first: int = 2

    def seen(self, slots, positions, segments):
        return super().seen(slots, positions, segments) | RULE


@register"""
_numbers = itertools.count()  # programs are compiled once per configuration: each file gets a name of its own


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes the file, with what a token sees besides the window, and returns the variant's name."""
    monkeypatch.setattr(attention, "__path__", [*attention.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "_variants", dict(registry._variants))
    name = f"copied_{next(_numbers)}"

    def write(rule: str, example: bool = True) -> str:
        line = re.search(r'`(@register\("model.attention", "mine", .*?\))`', (ROOT / "README.md").read_text("utf-8"))[1]
        line = line if example else '@register("model.attention", "mine")'
        text = (ROOT / "gpt_jax/model/attention/sliding.py").read_text("utf-8")
        text = re.sub(r"^@register\(.*\)$", line.replace("mine", name), text, flags=re.MULTILINE)
        text = text.replace("sliding", name).replace("Reach(window", "WithFirst(window")
        text = text.replace("\n@register", OWN_RULE.replace("RULE", rule), 1)
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        return name

    yield write
    sys.modules.pop(f"gpt_jax.model.attention.{name}", None)


def test_the_contract_tests_find_the_file_and_the_documents_do_not_miss_it(write):
    name = write(FIRST)
    (call,) = registry.examples("model.attention", name)
    assert call in calls("attention") and name not in documented.names("model.attention")
    contract.test_every_variant_has_examples()
    contract.test_no_token_sees_a_later_one("attention", call)
    contract.test_cached_equals_full("attention", call)
    contract.test_packed_documents_are_isolated("attention", call)
    contract.test_every_backend_computes_a_mechanism_or_refuses_it(call, "xla")
    for backend in ("blockwise(block=4)", "pallas(block=16, interpret=True)"):
        c = config(attention=call, attend=backend)
        with pytest.raises(UserError, match="a rule of its own"):
            logits(c, parameters(c), tokens(c, 1, 9))


def test_a_rule_that_looks_ahead_fails_the_contract(write):
    (call,) = registry.examples("model.attention", write("(slots[0] < slots[1])"))
    with pytest.raises(AssertionError):
        contract.test_no_token_sees_a_later_one("attention", call)


def test_a_file_without_the_example_that_it_needs_is_named_and_stops_no_other_test(write):
    name = write(FIRST, example=False)
    with pytest.raises(AssertionError, match=name):
        contract.test_every_variant_has_examples()
    assert not any(name in call for call in calls("attention"))
    with pytest.raises(ValueError, match="needs an example"):
        registry.typical("model.attention", name)
