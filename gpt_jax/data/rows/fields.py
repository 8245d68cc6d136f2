"""The fields of rows: other spellings of them that are common, and what each may hold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpt_jax.data.templates import ASSISTANT, SYSTEM, USER, Message
from gpt_jax.data.tokenizers import writable
from gpt_jax.errors import UserError

# Field -> other names of it, by which it is known where it is missing.
SPELLINGS = {
    "prompt": ("instruction", "question", "query", "input"),
    "completion": ("response", "output", "target"),
    "messages": ("conversations", "conversation"),
}
ABOUT = ("instruction", "question")  # spellings of a prompt that may be about a text
MORE = ("input", "context")  # that text (Alpaca, Dolly, SQuAD); it follows the prompt after an empty line
ROLES = {"human": USER, "gpt": ASSISTANT, "bot": ASSISTANT, "model": ASSISTANT, "developer": SYSTEM}
SHAPES = (
    "{prompt, completion}, {messages}, {prompt, chosen, rejected}, {prompt, completion, label}, {text, class}, "
    "{texts, class}, {prompt, options, class}, {prompt, answer}, {prompt} or {text}"
)


class BadRow(ValueError):
    """What is wrong with a row, and what a field may hold; the reader of the rows adds where it stands."""

    def __init__(self, what: str, allowed: str):
        super().__init__(what)
        self.what, self.allowed = what, allowed

    def at(self, place: str) -> UserError:
        return UserError(f"{place}: {self.what}", where=place, allowed=self.allowed)


def row_of(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The row in one of the shapes of ``data.examples``, other fields as they are.

    Args:
      names: field -> what it is called in ``given``; before all spellings.

    Raises:
      BadRow: a field holds something else than it may, or no field says anything to training.
    """
    row = _renamed(given, names)
    if "chosen" in row and "rejected" in row:
        row |= _apart(row)
    for field, check in CHECKS.items():
        if field in row:
            row[field] = check(row[field], field)
    if system := row.get("system"):
        row |= _with_system(row, system)
    if not _is_complete(row):
        raise BadRow(f"no example has the fields {', '.join(map(str, given)) or '(none)'} alone", SHAPES)
    return row


def _renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    for field, name in names.items():
        if name not in given:
            raise BadRow(f"there is no field {name!r}, which {field} is said to be called", ", ".join(given))
    row = {field: given[name] for field, name in names.items()}
    row |= {name: value for name, value in given.items() if name not in row and name not in names.values()}
    for field, spellings in SPELLINGS.items():
        found = next((name for name in spellings if name in row), None)
        if field not in row and found:
            row[field] = row.pop(found)
            more = next((row.pop(name) for name in MORE if name in row), None) if found in ABOUT else None
            row[field] = f"{_text(row[field], found)}\n\n{_text(more, 'the input')}" if more else row[field]
    if "label" in row and "class" not in row and "prompt" not in row and ("text" in row or "texts" in row):
        row["class"] = row.pop("label")
    return row


def _apart(row: Mapping[str, Any]) -> dict[str, Any]:
    """Two preferred texts or dialogues that begin alike (TRL's implicit prompt): prompt, and what follows it in each.

    A text is cut at the last space before the first difference, so that no word is parted.
    """
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str) and "prompt" not in row:
        common = _alike(chosen, rejected, min(len(chosen), len(rejected)))
        common = max((i for i in range(common) if chosen[i].isspace()), default=0)
    elif isinstance(chosen, list) and isinstance(rejected, list):
        common = _alike(chosen, rejected, min(len(chosen), len(rejected)) - 1)
        whole = common > 0 and _message(chosen[0], "message 1 of chosen")["role"] != ASSISTANT
        if "prompt" in row and not whole:  # they follow the prompt, and may begin with the same answer
            return {}
    else:
        return {}
    return {"prompt": chosen[:common], "chosen": chosen[common:], "rejected": rejected[common:]}


def _alike(one: Sequence[Any], other: Sequence[Any], longest: int) -> int:
    """How many of the first ``longest`` parts are the same."""
    return next((i for i in range(longest) if one[i] != other[i]), max(0, longest))


def _with_system(row: Mapping[str, Any], system: Any) -> dict[str, Any]:
    """The row with a field ``system`` as the first message."""
    first: list[Message] = [{"role": SYSTEM, "content": _text(system, "system")}]
    if "messages" in row:
        return {"messages": [*first, *row["messages"]]}
    if "prompt" in row:
        prompt = row["prompt"]
        return {"prompt": [*first, *([{"role": USER, "content": prompt}] if isinstance(prompt, str) else prompt)]}
    return {}


def _is_complete(row: Mapping[str, Any]) -> bool:
    return any(field in row for field in ("prompt", "messages", "text", "texts"))


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"{field} is {_kind(value)}", "a text")
    return writable(value)


def _texts(value: Any, field: str) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise BadRow(f"{field} is {_kind(value)}", "a list of texts")
    return [_text(part, f"a part of {field}") for part in value]


def _messages(value: Any, field: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise BadRow(f"{field} is {_kind(value)}", 'a list of {"role", "content"}')
    return [_message(part, f"message {number} of {field}") for number, part in enumerate(value, 1)]


def _message(value: Any, name: str) -> Message:
    if not isinstance(value, Mapping):
        raise BadRow(f"{name} is {_kind(value)}", '{"role", "content"}')
    given = {**value, **{new: value[old] for old, new in (("from", "role"), ("value", "content")) if old in value}}
    role, content = (given[key] if key in given else None for key in ("role", "content"))
    role = ROLES[role] if isinstance(role, str) and role in ROLES else role
    if role not in (SYSTEM, USER, ASSISTANT):
        raise BadRow(f"{name} has the role {role!r}", f"{SYSTEM}, {USER}, {ASSISTANT}, or {', '.join(ROLES)}")
    if isinstance(content, list):  # of parts, as OpenAI has them
        parts = [part["text"] if isinstance(part, Mapping) and "text" in part else part for part in content]
        content = "".join(_text(part, f"a part of the content of {name}") for part in parts)
    return {"role": role, "content": _text(content, f"the content of {name}")}


def _text_or_messages(value: Any, field: str) -> str | list[Message]:
    if isinstance(value, list):
        return _messages(value, field) if value else []
    if not isinstance(value, str):
        raise BadRow(f"{field} is {_kind(value)}", "a text or a list of messages")
    return writable(value)


def _answer(value: Any, field: str) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value, field)


def _label(value: Any, field: str) -> bool:
    if not isinstance(value, bool) and (not isinstance(value, int) or value not in (0, 1)):
        raise BadRow(f"{field} is {_kind(value)}", "true or false, or 1 or 0")
    return bool(value)


def _class(value: Any, field: str) -> int | str:
    if isinstance(value, str):  # a class's name
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadRow(f"{field} is {_kind(value)}", "a whole number from 0 on, or a name")
    return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", type(None): "null"}
    return names[type(value)] if type(value) in names else f"{type(value).__name__} {str(value)[:40]!r}"


CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "prompt": _text_or_messages,
    "messages": _messages,
    "completion": _text_or_messages,
    "chosen": _text_or_messages,
    "rejected": _text_or_messages,
    "answer": _answer,
    "label": _label,
    "text": _text,
    "texts": _texts,
    "options": _texts,
    "class": _class,
}
