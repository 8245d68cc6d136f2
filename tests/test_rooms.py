"""docs/rooms.md names every room, with about as many lines as it has today."""

import pytest

from docs import rooms

TOLERANCE = 0.2  # an edit of a few lines needs no new page


@pytest.fixture(scope="module")
def now() -> dict[str, rooms.Count]:
    return {room: rooms.count(files) for room, files in rooms.rooms().items()}


def stale(text: str, now: dict[str, rooms.Count]) -> list[str]:
    """The rooms that a page leaves out, has too many of, or gives another size."""
    then = rooms.written(text)
    changed = [room for room in then if room in now and not _alike(then[room], now[room])]
    return [*sorted(set(then) ^ set(now)), *changed]


def _alike(then: rooms.Count, now: rooms.Count) -> bool:
    return all(abs(a - b) <= TOLERANCE * b for a, b in zip(then[1:], now[1:], strict=True))


def test_the_page_is_up_to_date(now):
    assert not stale(rooms.PAGE.read_text("utf-8"), now), "python -m docs.rooms writes it anew"


@pytest.mark.parametrize("change", ["| 9 | 9999 | 9999 |", None])
def test_a_room_that_grew_or_is_left_out_is_named(now, change):
    rows = [f"| `{room}/` | what it is | {' | '.join(map(str, counted))} |" for room, counted in now.items()]
    assert stale("\n".join(rows), now) == []
    rows[0] = f"| `gpt_jax/` | what it is {change}" if change else ""
    assert stale("\n".join(rows), now) == ["gpt_jax"]


CODE = '''"""A module,

of two paragraphs."""

# a reason
x = 1  # one


def f():
    """One."""
    return """a

b"""
'''


def test_what_counts_as_code():
    assert rooms.code_lines(CODE) == 4
