"""Examples of classes and pairs that heads read: what is written, where the head reads it, what is cut, what is refused."""

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.data.forms import Side
from gpt_jax.data.forms.classes import SPECIALS
from gpt_jax.data.rendering import Writer
from gpt_jax.data.templates.plain import plain
from gpt_jax.data.tokenizers.bytes import Bytes
from gpt_jax.data.tokenizers.extended import extended
from gpt_jax.errors import UserError

TOKENIZER = extended(Bytes(), SPECIALS, "")
START, DELIMITER, EXTRACT = map(TOKENIZER.special, SPECIALS)


def made(form: str, *rows: dict, context: int = 16):
    places = [f"rows.jsonl, line {i + 1}" for i in range(len(rows))]
    side = Side(rows, places, Writer(plain(), TOKENIZER), context, "concat")
    return registry.build("data.forms", form)(side)


def batch_of(form: str, *rows: dict, context: int = 16) -> dict[str, np.ndarray]:
    windows = made(form, *rows, context=context).windows
    return windows.gather(np.arange(len(rows)), np.zeros(len(rows), int))


def ids(*parts) -> list[int]:
    return [i for part in parts for i in (part.encode() if isinstance(part, str) else [part])]


def read(batch: dict, row: int, option: int = 0) -> list[int]:
    """The tokens up to the one whose state the head reads."""
    return batch["tokens"][row, option, : batch["at"][row, option] + 1].tolist()


def test_a_text_ends_with_the_token_that_the_head_reads():
    batch = batch_of("classes(classes=3)", {"text": "ab", "class": 2}, {"texts": ["a", "bc"], "class": 0})
    assert batch["tokens"].shape == (2, 1, 16) and batch["class"].tolist() == [2, 0]
    assert read(batch, 0) == ids(START, "ab", EXTRACT) and read(batch, 1) == ids(START, "a", DELIMITER, "bc", EXTRACT)
    counted = batch["targets"][batch["weights"] > 0]  # all but the start are learned, as Radford et al. did
    assert counted.tolist() == ids("ab", EXTRACT, "a", DELIMITER, "bc", EXTRACT)


def test_a_similarity_is_read_in_both_orders():
    batch = batch_of("classes(classes=2, kind='similarity')", {"texts": ["a", "bc"], "class": 1})
    assert [read(batch, 0, o) for o in (0, 1)] == [
        ids(START, "a", DELIMITER, "bc", EXTRACT),
        ids(START, "bc", DELIMITER, "a", EXTRACT),
    ]


def test_options_that_a_row_lacks_are_nowhere():
    form = "classes(classes=3, kind='choice')"
    two, three = (
        {"prompt": "q", "options": ["a", "b"], "class": 1},
        {"prompt": "", "options": ["x", "y", "z"], "class": 2},
    )
    batch = batch_of(form, two, three)
    assert read(batch, 0, 1) == ids(START, "q", DELIMITER, "b", EXTRACT)
    assert batch["at"][0, 2] == -1 and not batch["weights"][0, 2].any() and batch["at"][1, 2] > 0


def test_long_texts_are_cut_to_their_shares_and_the_head_still_reads_the_end():
    rows = [
        {"texts": ["a" * 20, "b" * 3], "class": 0},
        {"texts": ["a" * 20, "b" * 20], "class": 0},
        {"text": "c" * 20, "class": 1},
    ]
    found = made("classes(classes=2)", *rows)
    assert found.cut == 3
    batch = found.windows.gather(np.arange(3), np.zeros(3, int))
    assert read(batch, 0) == ids(START, "a" * 10, DELIMITER, "b" * 3, EXTRACT)
    assert read(batch, 1) == ids(START, "a" * 7, DELIMITER, "b" * 6, EXTRACT)
    assert read(batch, 2) == ids(START, "c" * 14, EXTRACT)
    choice = batch_of("classes(classes=2, kind='choice')", {"prompt": "p" * 20, "options": ["xy", "z" * 4], "class": 0})
    assert read(choice, 0, 0) == ids(START, "p" * 9, DELIMITER, "xy", EXTRACT)  # of all options alike


@pytest.mark.parametrize(
    ("form", "row", "said"),
    [
        ("classes(classes=3)", {"text": "a", "class": 3}, "class 3"),
        ("classes(classes=3)", {"text": "a", "class": -1}, "class -1"),
        ("classes(classes=3)", {"text": "a", "class": True}, "class True"),
        ("classes(classes=('good', 'bad'))", {"text": "a", "class": "godo"}, "godo"),
        ("classes(classes=3)", {"text": "a"}, "'class'"),
        ("classes(classes=3)", {"prompt": "a", "class": 1}, "'text'"),
        ("classes(classes=3)", {"texts": ["a"], "class": 1}, "texts"),
        ("classes(classes=3, kind='similarity')", {"text": "a", "class": 1}, "'texts'"),
        ("classes(classes=2, kind='choice')", {"prompt": "q", "options": ["a"], "class": 0}, "options"),
        ("classes(classes=2, kind='choice')", {"prompt": "q", "options": ["a", "b", "c"], "class": 0}, "options"),
        ("classes(classes=3, kind='choice')", {"prompt": "q", "options": ["a", "b"], "class": 2}, "class 2"),
        ("pairs(ends=True)", {"prompt": "q", "chosen": "a", "rejected": "b", "margin": "much"}, "margin"),
        ("pairs(ends=True)", {"prompt": "q", "chosen": "a", "rejected": "b", "margin": 10**400}, "margin"),
    ],
)
def test_what_is_wrong_with_a_row_is_named_with_its_place(form, row, said):
    good = {
        "text": "a",
        "texts": ["a", "b"],
        "prompt": "q",
        "options": ["a", "b"],
        "chosen": "a",
        "rejected": "b",
        "class": 0,
    }
    good |= {"class": "good"} if "good" in form else {}
    with pytest.raises(UserError) as refusal:
        made(form, good, row)
    assert said in refusal.value.what and "rows.jsonl, line 2" in refusal.value.what


def test_a_context_without_room_for_a_text_is_refused():
    with pytest.raises(UserError, match="no room"):
        made("classes(classes=2)", {"texts": ["a", "b"], "class": 0}, context=4)


def test_names_of_classes_are_their_numbers():
    batch = batch_of("classes(classes=('good', 'bad'))", {"text": "a", "class": "bad"}, {"text": "a", "class": 0})
    assert batch["class"].tolist() == [1, 0]


def test_the_end_of_a_completion_is_read_where_a_reward_is_asked_for():
    row = {"prompt": "q", "chosen": "ab", "rejected": "c", "margin": 2}
    plain_pairs, read_pairs = batch_of("pairs", row), batch_of("pairs(ends=True)", row)
    end = Bytes.separator
    assert plain_pairs["tokens"][0, 0, :4].tolist() == ids("qab", 0)
    assert read_pairs["tokens"][0, 0, :4].tolist() == ids("qab", end) and read_pairs["tokens"][0, 1, 2] == end
    assert (read_pairs["weights"] == plain_pairs["weights"]).all() and read_pairs["margin"].tolist() == [2.0]
    # The token that ends the longer one needs a place.
    assert made("pairs", row, {**row, "chosen": "ab" * 8}, context=17).too_long == 0
    assert made("pairs(ends=True)", row, {**row, "chosen": "ab" * 8}, context=17).too_long == 1
