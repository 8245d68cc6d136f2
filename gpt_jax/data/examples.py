"""Examples, as opposed to running text: questions and answers, dialogues, preferences, labels.

A source of examples gives rows, mappings of one of these shapes; a text of a prompt may be a list of messages:

    {"prompt", "completion"}              the model learns to write the completion
    {"messages": [{"role", "content"}]}   the model learns to write every answer of the assistant
    {"prompt", "chosen", "rejected"}      the chosen completion is preferred, by "margin" where a row says so
    {"prompt", "completion", "label"}     the completion is wanted (true) or not
    {"text", "class"}                     the text is of one of several classes; also {"texts": [a, b], "class"}
    {"prompt", "options", "class"}        the option of this number is the right one
    {"prompt", "answer"}                  the answer can be checked; for training it is a completion
    {"prompt"}                            the model's own answers are learned from
    {"text"}                              all of the text is learned

Further fields are kept, and say nothing to training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Examples:
    """What a source of examples returns.

    Attributes:
      train, valid: rows of either side, which share none.
      digest: of all rows.
      places: of messages, where row i of either side comes from ("pairs.jsonl, line 7"); "row i" where it says nothing.
    """

    train: Sequence[Row]
    valid: Sequence[Row]
    digest: str
    places: tuple[Sequence[str], Sequence[str]] = ((), ())
