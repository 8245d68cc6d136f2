"""A sample of the conformance table's cells, and that the table in docs/ has them all."""

import pytest

from gpt_jax import registry
from tests import documented
from tests.conformance import INTRODUCTION, TABLE, Cell, as_programs, cells, has_backend, verdicts

CELLS = cells()
WITHOUT_LIMITS = ("auto", "reference", "xla")
PARTS = ("mechanism", "position", "backend")


def sample() -> list[Cell]:
    """A few in which every mechanism, position and backend occurs: always a cell with the most that is new. Kernels, which
    refuse many mechanisms, are met with one that all of them can do; mechanisms without a softmax refuse many positions."""
    easy = {"mechanism": ("full", "sliding(window=5)"), "position": ("rope(theta=100.0)",)}
    able = [c for c in CELLS if c.backend in WITHOUT_LIMITS or all(getattr(c, part) in easy[part] for part in easy)]
    able = [c for c in able if c.position == "none" or has_backend(c.mechanism)]
    chosen: list[Cell] = []
    missing = {(part, getattr(cell, part)) for cell in CELLS for part in PARTS}
    while missing:
        chosen.append(max(able, key=lambda cell: len(missing & parts_of(cell))))
        missing -= parts_of(chosen[-1])
    return chosen


def parts_of(cell: Cell) -> set[tuple[str, str]]:
    return {(part, getattr(cell, part)) for part in PARTS}


def test_the_sample_meets_everything():
    for part in PARTS:
        assert {getattr(cell, part) for cell in sample()} == {getattr(cell, part) for cell in CELLS}, part


@pytest.mark.every(3)
@pytest.mark.parametrize("cell", sample(), ids=str)
def test_a_cell_computes_what_it_says_or_refuses(cell):
    wrong = {name: verdict for name, verdict in verdicts(cell, as_programs) if not verdict.ok}
    assert not wrong


def test_the_table_has_every_cell_of_what_is_committed():
    text = TABLE.read_text("utf-8")
    known = {kind: documented.names(f"model.{kind}") for kind in ("attention", "position", "attend")}
    assert text.startswith(INTRODUCTION)
    for cell in CELLS:
        calls = zip(known.values(), (cell.mechanism, cell.position, cell.backend), strict=True)
        if not all(registry.parse(call)[0] in names for names, call in calls):
            continue
        assert f"| `{cell.mechanism}` | `{cell.position}` |" in text and f"`{cell.backend}`" in text, cell
    assert ", 0 wrong." in text
