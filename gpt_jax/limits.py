"""Which values a setting may have: its annotation says the type, and for a number the least and the most.

Knobs of a configuration, arguments of registered variants and fields of tables are annotated alike, as in
``width: Annotated[int, Limits(1, 2**20)]``, and checked by the same functions.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any

from gpt_jax.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Limits:
    """The numbers from ``least`` to ``most``; nan is never one of them.

    Args:
      above, below: whether ``least`` and ``most`` themselves are excluded.
    """

    least: float
    most: float
    above: bool = False
    below: bool = False

    def allow(self, value: float) -> bool:
        low = value > self.least if self.above else value >= self.least
        high = value < self.most if self.below else value <= self.most
        return low and high

    def __str__(self) -> str:
        least, most = f"{self.least:.10g}", f"{self.most:.10g}"
        if self.above:
            return f"above {least}, below {most}" if self.below else f"above {least}, up to {most}"
        return f"{least} up to, not including, {most}" if self.below else f"{least} to {most}"


@dataclass(frozen=True)
class Or:
    """One more number that is allowed, and what it stands for."""

    value: float
    meaning: str

    def allow(self, value: float) -> bool:
        return value == self.value

    def __str__(self) -> str:
        return f"{self.value} = {self.meaning}"


LARGEST = 2**31 - 1  # of the whole numbers that devices count with
LARGEST_FLOAT = 3.4028234e38  # of float32
Size = Annotated[int, Limits(1, 2**20)]  # of an axis of parameters
Heads = Annotated[int, Limits(1, 2**16)]
Rows = Annotated[int, Limits(1, 2**24)]  # of a long axis: tokens, sequences, ids
Texts = Annotated[int, Limits(1, 2**16)]  # that are written of one prompt, or side by side
Count = Annotated[int, Limits(1, LARGEST)]
Natural = Annotated[int, Limits(0, LARGEST)]
Seed = Annotated[int, Limits(0, 2**63 - 1)]
Positive = Annotated[float, Limits(0, LARGEST_FLOAT, above=True)]
Factor = Annotated[float, Limits(0, LARGEST_FLOAT)]
Signed = Annotated[float, Limits(-LARGEST_FLOAT, LARGEST_FLOAT)]
Share = Annotated[float, Limits(0, 1)]
Decay = Annotated[float, Limits(0, 1, below=True)]  # of a moving average
Between = Annotated[float, Limits(0, 1, above=True, below=True)]


def folded(seed: int) -> int:
    """A seed of any size in the 32 bits that keys of JAX are made from: one below 2^32 as it is; of a larger one all bits
    count.

    Raises:
      UserError: it is negative.
    """
    if seed < 0:
        raise UserError(f"seed = {seed} is out of range", where="seed", allowed="whole numbers from 0")
    while seed >> 32:
        seed = (seed & 0xFFFFFFFF) ^ (seed >> 32)
    return seed


def has_type(value: Any, annotation: Any) -> bool:
    """Whether a value is of the type, or of one of the types, of an annotation. An int is a float, and a bool no int."""
    return any(_is(value, option) for option in _options(annotation))


def exceeded(value: Any, annotation: Any) -> str:
    """What is allowed, where a number of an annotation's type is outside of its limits; empty where it is not."""
    for option in _options(annotation):
        allowed = typing.get_args(option)[1:] if _is_number(option) else ()
        if allowed and _is(value, option) and not any(part.allow(value) for part in allowed):
            return "; ".join(map(str, allowed))
    return ""


def is_within(value: Any, annotation: Any) -> bool:
    """Whether a value is of the type of an annotation, and within its limits."""
    return has_type(value, annotation) and not exceeded(value, annotation)


def converted(value: Any, annotation: Any) -> Any:
    """The value as the annotation has it: a whole number as a float, where only floats are asked for."""
    return float(value) if names(annotation) == "float" else value


def names(annotation: Any) -> str:
    """The types of an annotation, for messages."""
    return " or ".join(_name(option) for option in _options(annotation))


def is_plain(annotation: Any) -> bool:
    """Whether all types of an annotation are ones that this module can check."""
    return all(
        isinstance(typing.get_origin(option) or option, type) or _is_number(option) for option in _options(annotation)
    )


def section(cls: Any, values: Any, where: str) -> Any:
    """Some of the settings: the dataclass ``cls`` with every value checked, or a ``UserError`` that says ``where``."""
    types_ = typing.get_type_hints(cls, include_extras=True)
    if not hasattr(values, "keys"):
        raise UserError(f"{where} = {values!r} is no table of settings", where=where, allowed=", ".join(types_))
    for key in values:
        if key not in types_:
            raise UserError(
                f"there is no key {key!r} in {where}",
                where=f"{where}.{key}",
                allowed=", ".join(types_),
                fix=did_you_mean(str(key), types_),
            )
    missing = [key for key in types_ if key not in values]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}", where=where, fix="start from configs/base.py")
    return cls(**{key: checked(values[key], types_[key], f"{where}.{key}") for key in types_})


def checked(value: Any, want: Any, where: str) -> Any:
    """A value as its annotation wants it, or a ``UserError`` that names ``where``."""
    if dataclasses.is_dataclass(want):
        return section(want, value, where)
    value = _tuples(value)
    if not has_type(value, want):
        article = "an" if names(want).startswith("i") else "a"
        given = type(value).__name__
        raise UserError(f"{where} = {value!r} has the type {given}", where=where, allowed=f"{article} {names(want)}")
    if outside := exceeded(value, want):
        raise UserError(f"{where.removeprefix('config.')} = {value!r} is out of range", where=where, allowed=outside)
    return converted(value, want)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def _options(annotation: Any) -> tuple[Any, ...]:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return tuple(o for part in typing.get_args(annotation) for o in _options(part)) if union else (annotation,)


def _is_number(option: Any) -> bool:
    return typing.get_origin(option) is Annotated


def _is(value: Any, option: Any) -> bool:
    if _is_number(option):
        return _is(value, typing.get_args(option)[0])
    if typing.get_origin(option) is tuple:
        return isinstance(value, tuple) and all(has_type(item, typing.get_args(option)[0]) for item in value)
    if option is Any:
        return True
    if typing.get_origin(option) in (list, dict):
        parts = [value, value.values()] if isinstance(value, dict) else [value]
        kinds = typing.get_args(option)
        return isinstance(value, typing.get_origin(option)) and all(
            has_type(item, kind) for part, kind in zip(parts, kinds, strict=True) for item in part
        )
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, option) and (option is bool or not isinstance(value, bool))


def _name(option: Any) -> str:
    if _is_number(option):
        return _name(typing.get_args(option)[0])
    if typing.get_origin(option) is tuple:
        return f"tuple of {names(typing.get_args(option)[0])}"
    if typing.get_origin(option) in (list, dict):
        return f"{typing.get_origin(option).__name__} of {' to '.join(map(names, typing.get_args(option)))}"
    return "none" if option is type(None) else option.__name__
