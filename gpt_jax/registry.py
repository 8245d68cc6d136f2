"""How a name in a config becomes an object: ``"sliding(window=512)"`` is a call with literal arguments.

A kind is a Python module or package below ``gpt_jax``. In a package (``model.attention``) each variant is a file of
its own; in a module (``model.norm``) several share one. Either way the variant is what ``@register(kind, name)``
decorates, and looking a name up imports the file that would hold it. Nothing else has to be edited.
"""

import ast
import dataclasses
import fnmatch
import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt_jax import limits
from gpt_jax.errors import UserError, did_you_mean

_variants: dict[tuple[str, str], Callable] = {}
_notes: dict[tuple[str, str], "_Notes"] = {}
_renamed: dict[tuple[str, str], str] = {}
# What Python's own parser raises at texts that are none: parentheses deeper than it goes, keys that cannot be hashed.
NO_LITERAL = (SyntaxError, ValueError, TypeError, AttributeError, RecursionError, MemoryError)
_UNQUOTED = re.compile(r"(\w+)\((\w+)=\s*([^'\"()=,]+)\)")


@dataclasses.dataclass(frozen=True)
class _Notes:
    """What ``register`` was given beside a variant, for tests, documents and messages."""

    examples: tuple[str, ...]
    typical: str
    reads: Sequence[str]


def register(
    kind: str,
    name: str,
    *,
    examples: tuple[str, ...] = (),
    typical: str = "",
    formerly: tuple[str, ...] = (),
    reads: Sequence[str] = (),
) -> Callable:
    """Decorator: makes the decorated class or function the variant ``name`` of ``kind`` (for example "model.norm").

    Args:
      examples: calls that the tests run, of a size for models of a few channels and ten tokens.
      typical: the call that documentation shows and benchmarks time; the first example if empty.
      formerly: names that the variant had before; stored configurations keep working, and lists do not show them.
      reads: patterns of the names of files that its argument ``path`` takes; "/" is any folder, "/*.bin" a folder with
        such a file. The messages to users who give a path alone are made from it.
    """
    for call in (*examples, *filter(None, (typical,))):
        if parse(call)[0] != name:
            raise ValueError(f"{kind}: {call!r} is given as an example of {name!r}, and calls another variant")

    def add(variant: Callable) -> Callable:
        if (kind, name) in _variants:
            raise ValueError(f"{kind} already has a variant {name!r}: {_variants[kind, name]}")
        _variants[kind, name] = variant
        _notes[kind, name] = _Notes(examples, typical, reads)
        _renamed.update({(kind, old): name for old in formerly})
        return variant

    return add


def options(cls: type) -> Callable:
    """Decorator for ``def variant(…, **given)``: the fields of the dataclass ``cls`` are its keyword arguments."""

    def add(variant: Callable) -> Callable:
        own = inspect.signature(variant)
        fields = [p.replace(kind=p.KEYWORD_ONLY) for p in inspect.signature(cls).parameters.values()]
        kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        merged = [*kept, *(f for f in fields if f.name not in own.parameters)]
        variant.__signature__ = own.replace(parameters=merged)  # type: ignore[attr-defined]
        return variant

    return add


def parse(call: str, where: str = "", kind: str = "") -> tuple[str, dict[str, Any]]:
    """Splits ``"name(key=literal, ...)"`` or ``"name"`` into the name and its keyword arguments.

    Args:
      kind: that the name should be a variant of, for the hint in the error.

    Raises:
      UserError: not such a call, or an argument that is not a literal.
    """
    try:
        node = ast.parse(call.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            return node.func.id, {str(k.arg): ast.literal_eval(k.value) for k in node.keywords if k.arg}
    except NO_LITERAL:
        pass
    raise UserError(
        f"{call!r} is not a name or a call with literal keyword arguments",
        where=where,
        allowed='"name" or "name(key=value, ...)", values being numbers, strings, booleans, lists or dicts',
        fix=_path_call(kind, call) or _unquoted_call(call) or _positional_call(kind, call),
    )


def _path_call(kind: str, text: str) -> str:
    """A hint for a path that was given alone: the call of the variant that reads such a file or folder, or nothing."""
    text = text.strip().strip("'\"")
    path = Path(text).expanduser()
    if not kind or not text or not os.path.exists(path) and not re.fullmatch(r"[^()\[\]{}=,]*[/.][^()\[\]{}=,]*", text):
        return ""
    folder = text.endswith("/") or os.path.isdir(path)
    found = ["/", *(f"/{entry.name}" for entry in path.glob("*"))] if folder else [path.name]
    patterns = [(pattern, name) for name in names(kind) for pattern in _notes[kind, name].reads]
    fitting = [
        (pattern, name)
        for pattern, name in patterns
        if pattern.startswith("/") == folder and fnmatch.filter(found, pattern)
    ]
    if not fitting:
        return ""
    _, name = max(fitting, key=lambda row: len(row[0]))  # the most specific pattern
    needed = [p.name for p in _keywords(kind, name) if p.default is p.empty and p.name != "path"]
    return f"did you mean {name}({', '.join([f'path={text!r}', *(f'{other}=…' for other in needed)])})?"


def _unquoted_call(call: str) -> str:
    """A hint for ``name(key=text)`` whose text lacks its quotes, as shells remove them."""
    found = _UNQUOTED.fullmatch(call.strip())
    return f"did you mean {found[1]}({found[2]}={found[3]!r})? Quote the whole flag for the shell" if found else ""


def _positional_call(kind: str, call: str) -> str:
    """A hint for a call whose arguments lack their names."""
    try:
        node = ast.parse(call.strip(), mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            return ""
        if not kind or node.func.id not in names(kind):
            return ""
        named = [f"{k.arg}={ast.literal_eval(k.value)!r}" for k in node.keywords]
        given = [repr(ast.literal_eval(argument)) for argument in node.args]
    except NO_LITERAL:
        return ""
    keywords = [p.name for p in _keywords(kind, node.func.id)]
    pairs = [f"{key}={value}" for key, value in zip(keywords, given, strict=False)]
    return f"did you mean {node.func.id}({', '.join([*pairs, *named])})?" if len(pairs) == len(given) else ""


def _keywords(kind: str, name: str) -> list[inspect.Parameter]:
    """The parameters of a variant that a config may give: those after "*"."""
    parameters = _signature(lookup(kind, name)).parameters.values()
    return [p for p in parameters if p.kind is p.KEYWORD_ONLY]


def names(kind: str) -> list[str]:
    """The known variants of a kind: its files, and what has been registered."""
    module = importlib.import_module(f"gpt_jax.{kind}")
    files = [m.name for m in pkgutil.iter_modules(getattr(module, "__path__", [])) if not m.name.startswith("_")]
    for file in files:
        importlib.import_module(f"gpt_jax.{kind}.{file}")
    return sorted(name for other, name in _variants if other == kind)


def lookup(kind: str, name: str, where: str = "") -> Callable:
    """The variant of ``kind`` called ``name``.

    Raises:
      UserError: there is none; the message lists those there are.
    """
    if (kind, name) not in _variants:
        module = importlib.import_module(f"gpt_jax.{kind}")
        if name in {m.name for m in pkgutil.iter_modules(getattr(module, "__path__", []))}:
            importlib.import_module(f"gpt_jax.{kind}.{name}")
    known = names(kind) if (kind, name) not in _variants else []
    name = _renamed[kind, name] if (kind, name) in _renamed else name
    if (kind, name) not in _variants:
        raise UserError(
            f"there is no {kind} called {name!r}",
            where=where,
            allowed=", ".join(known),
            fix=_path_call(kind, name) or did_you_mean(name, known),
        )
    return _variants[kind, name]


def examples(kind: str, name: str) -> tuple[str, ...]:
    """The calls of a variant that the tests run: those it was registered with, else its name, where that suffices; none
    where it has arguments without a default, or is registered with its typical call alone."""
    variant = lookup(kind, name)
    needed = [p for p in _signature(variant).parameters.values() if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    alone = not needed and not _notes[kind, name].typical
    return _notes[kind, name].examples or ((name,) if alone else ())


def typical(kind: str, name: str) -> str:
    """A variant as a configuration of a real model names it.

    Raises:
      ValueError: it has arguments without a default, and was registered without examples.
    """
    calls, shown = examples(kind, name), _notes[kind, name].typical
    if not shown and not calls:
        raise ValueError(f"{name!r} needs an example: @register({kind!r}, {name!r}, examples=('{name}(…)',))")
    return shown or calls[0]


def build(kind: str, call: str, *args: Any, where: str = "", **context: Any) -> Any:
    """Calls the variant that ``call`` names with the call's own keyword arguments, plus ``args`` and ``context``.

    Raises:
      UserError: unknown name, or arguments that the variant does not take.
    """
    name, kwargs = parse(call, where, kind)
    return built(kind, name, kwargs, *args, where=where, **context)


def built(kind: str, name: str, kwargs: Mapping[str, Any], *args: Any, where: str = "", **context: Any) -> Any:
    """``build`` of a call that has been parsed.

    Raises:
      UserError: see ``build``.
    """
    variant = lookup(kind, name, where)
    signature = _signature(variant)
    own = [p for p in list(signature.parameters)[len(args) :] if p not in context]
    try:
        signature.bind(*args, **kwargs, **context)
    except TypeError as error:
        raise UserError(
            f"{name!r} cannot be built with {dict(kwargs)!r}: {error}",
            where=where,
            allowed=f"arguments of {name}: {', '.join(own) or 'none'}",
            fix="; ".join(filter(None, (did_you_mean(k, own) for k in kwargs if k not in own))),
        ) from None
    kwargs = check_values(variant, kwargs, name, where)
    return variant(*args, **kwargs, **context)


def _signature(variant: Callable) -> inspect.Signature:
    """Of the constructor itself where ``variant`` is a class: a metaclass may hide it behind (*args, **kwargs)."""
    if not inspect.isclass(variant):
        return inspect.signature(variant)
    constructor = inspect.signature(variant.__init__)
    return constructor.replace(parameters=list(constructor.parameters.values())[1:])


def check(kind: str, call: str, where: str = "") -> None:
    """Checks a call as far as that goes without building what it names.

    Raises:
      UserError: it is no call, there is no such variant, or an argument is unknown, of another type or out of its limits.
    """
    name, values = parse(call, where, kind)
    variant = lookup(kind, name, where)
    own = [p.name for p in _keywords(kind, name)]
    for key in values:
        if key not in own:
            raise UserError(
                f"{name} has no argument {key!r}",
                where=where,
                allowed=f"arguments of {name}: {', '.join(own) or 'none'}",
                fix=did_you_mean(key, own),
            )
    check_values(variant, values, name, where)


def check_values(of: Callable, values: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """Values checked against the annotations of the arguments of ``of``, where those are of plain types; whole numbers
    become floats where floats are asked for.

    Raises:
      UserError: one is of another type or out of its limits.
    """
    parameters, found = _signature(of).parameters, dict(values)
    for key, value in values.items():
        annotation = parameters[key].annotation
        if annotation is inspect.Parameter.empty or not limits.is_plain(annotation):
            continue
        given = f"{name}({key}={value!r})"
        if not limits.has_type(value, annotation):
            raise UserError(f"{given}: that is a {type(value).__name__}", where=where, allowed=limits.names(annotation))
        if outside := limits.exceeded(value, annotation):
            raise UserError(f"{given} is out of range", where=where, allowed=outside)
        found[key] = limits.converted(value, annotation)
    return found
