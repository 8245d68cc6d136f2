"""Flags, read in one way for all verbs: ``--name value`` and ``--name=value`` alike, ``~`` expanded in paths.

A verb declares its flags on ``Flags``; ``parse`` reads a command line into an object with an attribute for each. Flags
of a configuration (``--config.optim.lr=1e-3``) are those of the file that --config names, or of the run in --workdir.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, get_type_hints

from absl import flags as absl_flags
from ml_collections import ConfigDict, config_flags

from gpt_jax import limits
from gpt_jax.config import Config
from gpt_jax.errors import UserError, closest
from gpt_jax.storage import local_path

Tables = Mapping[str, ConfigDict]
# What the messages call the types of flags and knobs.
TYPES = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "a text", "tuple": "a tuple"}


class Flags:
    """The flags that a verb declares, and what reads them."""

    def __init__(self, verb: str):
        self.verb = verb
        self._known = absl_flags.FlagValues()
        self._known.set_gnu_getopt(True)
        self._paths: set[str] = set()
        self.numbers: dict[str, Any] = {}
        self._required: list[tuple[str, str]] = []
        self._tables: Callable[[Any], Tables] | None = None
        self.boolean("debug", False, "show tracebacks")
        absl_flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=self._known)

    def string(self, name: str, default: str | None, help: str, required: str = "") -> None:
        """``required``: an example of the flag where it has to be given."""
        absl_flags.DEFINE_string(name, default, help, flag_values=self._known)
        if required:
            self._required.append((name, required))

    def path(self, name: str, default: str | None, help: str, required: str = "") -> None:
        self.string(name, default, help, required)
        self._paths.add(name)

    def integer(self, name: str, default: int | None, help: str, allowed: Any) -> None:
        """``allowed``: an annotation of ``gpt_jax.limits``."""
        absl_flags.DEFINE_integer(name, default, help, flag_values=self._known)
        self.numbers[name] = allowed

    def number(self, name: str, default: float, help: str, allowed: Any) -> None:
        absl_flags.DEFINE_float(name, default, help, flag_values=self._known)
        self.numbers[name] = allowed

    def boolean(self, name: str, default: bool, help: str) -> None:
        absl_flags.DEFINE_bool(name, default, help, flag_values=self._known)

    def choice(self, name: str, default: str, options: Sequence[str], help: str) -> None:
        absl_flags.DEFINE_enum(name, default, list(options), help, flag_values=self._known)

    def tables(self, make: Callable[[Any], Tables]) -> None:
        """Settings whose every knob is a flag: ``make(values)`` gives them by name, from the flags that were read."""
        self._tables = make

    def names(self) -> list[str]:
        return [name for name in self._known if name not in ("flagfile", "undefok") and self._known[name].name == name]

    def describe(self) -> str:
        """The flags, a line each."""
        rows = []
        for name in self.names():
            flag = self._known[name]
            default = "" if flag.default in (None, "", False) else f" ({flag.default})"
            rows.append(f"  --{name:<12} {flag.help}{default}")
        return "\n".join(rows)

    def parse(self, argv: Sequence[str]) -> SimpleNamespace:
        """The values of all flags; the words they were read from as ``argv``, and ``given``, the names of the settings
        among them; ``help`` alone where help was asked for.

        Raises:
          UserError: a flag is unknown, missing, given without a value or with one of another type.
        """
        try:
            words = self._known.read_flags_from_files([self.verb, *argv], force_gnu=True)
            rest = self._known(words, known_only=True)[1:]
        except absl_flags.Error as error:
            raise self._refused(str(error)) from None
        values = SimpleNamespace(**{name: self._known[name].value for name in self.names()})
        if values.help:
            return values
        overrides = self._overrides(rest)
        for name in overrides:
            if self._tables is None or "." not in name and closest(name, self.names()):
                raise self._unknown(name)
        for name, example in self._required:
            if getattr(values, name) is None:
                raise UserError(f"--{name} is missing", where=self.verb, fix=f"add {example}")
        for name, allowed in self.numbers.items():
            if (value := getattr(values, name)) is not None and (outside := limits.exceeded(value, allowed)):
                raise UserError(f"--{name}={value} is out of range", where=self.verb, allowed=outside)
        for name in self._paths:
            if self._known[name].present:
                setattr(values, name, str(local_path(getattr(values, name), f"--{name}")))
        values.config_name = getattr(values, "config", None)
        values.argv = list(argv)
        values.given = frozenset(overrides)
        if self._tables is not None:
            for name, table in self._overridden(self._tables(values), overrides).items():
                setattr(values, name, table)
        return values

    def _overrides(self, words: Sequence[str]) -> dict[str, str | None]:
        """Flag -> value of what is left of a command line; None where a flag has no value."""
        found: dict[str, str | None] = {}
        waiting = None
        for word in words:
            if waiting is not None and not word.startswith("--"):
                found[waiting], waiting = word, None
            elif not word.startswith("-"):
                raise UserError(f"{word!r} is not a flag", where=self.verb, allowed="--name=value")
            else:
                name, equals, value = word.lstrip("-").partition("=")
                found[name], waiting = (value, None) if equals else (None, name)
        return found

    def _overridden(self, tables: Tables, overrides: Mapping[str, str | None]) -> dict[str, ConfigDict]:
        """The tables with their knobs set to what the command line gives."""
        knobs = {f"{name}.{knob}": value for name, table in tables.items() for knob, value in _knobs(table).items()}
        words = []
        for name, given in overrides.items():
            positive = name.removeprefix("no") if name not in knobs and name.startswith("no") else name
            if positive not in knobs:
                raise self._unknown(name, knobs)
            if given is None and not _is_switch(positive, knobs[positive]):
                raise _without_value(name)
            words.append(f"--{positive}={name == positive}" if given is None else f"--{name}={given}")
        flag = absl_flags.FlagValues()
        for name, table in tables.items():
            config_flags.DEFINE_config_dict(name, table, flag_values=flag, sys_argv=["", *words])
        try:
            flag(["", *words])
        except (absl_flags.Error, TypeError, ValueError) as error:
            raise _wrong_knob(str(error), overrides, knobs) from None
        except (RecursionError, MemoryError):
            raise _too_deep(overrides) from None
        return {name: flag[name].value for name in tables}

    def _unknown(self, name: str, knobs: Mapping[str, Any] | None = None) -> UserError:
        """Of a flag that is neither the verb's nor one of ``knobs``."""
        knobs = knobs or {}
        section, _, last = name.rpartition(".")
        within = [knob for knob in knobs if knob.startswith(f"{name}.")]
        if within:
            return UserError(
                f"--{name} is a section of settings",
                where=self.verb,
                allowed=f"one of its settings: {', '.join(knob.removeprefix(f'{name}.') for knob in within)}",
                fix=f"for example --{within[0]}={knobs[within[0]]}",
            )
        same = [knob for knob in knobs if knob.rpartition(".")[2] == last]
        near = next(iter(same), "") or closest(name, [*self.names(), *knobs])
        beside = [knob.rpartition(".")[2] for knob in knobs if section and knob.rpartition(".")[0] == section]
        return UserError(
            f"there is no {'setting' if section else 'flag'} --{name}",
            where=self.verb,
            allowed=f"of {section}: {', '.join(beside)}" if beside else "",
            fix=f"did you mean --{near}?" if near else f"--help lists the flags of {self.verb}",
        )

    def _refused(self, said: str) -> UserError:
        """What absl says of a flag of the verb, in the words of this module."""
        missing = re.search(r"Missing value for flag --(\S+)", said)
        if missing:
            return _without_value(missing[1])
        wrong = re.match(r"flag --(\w+)=(.*?): (.*)", said, re.DOTALL)
        if not wrong or wrong[1] not in self._known:
            return UserError(said.removeprefix("ERROR:: ").removeprefix("flag "), where=self.verb)
        parser = self._known[wrong[1]].parser
        choices = getattr(parser, "enum_values", None)
        allowed = ", ".join(choices) if choices else TYPES.get(self._known[wrong[1]].flag_type(), "")
        return UserError(f"--{wrong[1]}={wrong[2]} is not allowed", where=self.verb, allowed=allowed)


def _is_switch(name: str, default: Any) -> bool:
    """Whether a knob may be true or false, among other values perhaps, so that its name alone says which."""
    annotation: Any = Config
    for part in name.split(".")[1:]:
        annotation = get_type_hints(annotation, include_extras=True).get(part) if isinstance(annotation, type) else None
    return isinstance(default, bool) or annotation is not None and limits.has_type(True, annotation)


def _without_value(name: str) -> UserError:
    return UserError(f"--{name} is given no value", where=f"--{name}", allowed=f"--{name}=VALUE or --{name} VALUE")


def _knobs(table: ConfigDict) -> dict[str, Any]:
    """Dotted name -> value of every setting of a table."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        inner = {f"{key}.{k}": v for k, v in _knobs(value).items()} if isinstance(value, ConfigDict) else {key: value}
        found |= inner
    return found


def _too_deep(overrides: Mapping[str, str | None]) -> UserError:
    """Of a setting that is nested deeper than Python's parser goes."""

    def is_read(given: str | None) -> bool:
        try:
            ast.literal_eval(given or "")
        except (SyntaxError, ValueError, TypeError):
            return True  # as a text
        except (RecursionError, MemoryError):
            return False
        return True

    name = next((name for name, given in overrides.items() if not is_read(given)), "")
    return UserError(f"--{name}={overrides.get(name)} is nested too deep to be read", where=f"--{name}")


def _wrong_knob(said: str, overrides: Mapping[str, str | None], knobs: Mapping[str, Any]) -> UserError:
    """Of a setting whose value has another type than its default; ``said`` names it somewhere."""
    named = [name for name in overrides if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", said)]
    name = next(iter(named or overrides))
    kind = type(knobs[name]).__name__
    return UserError(
        f"--{name}={overrides[name]} is not {TYPES.get(kind, kind)}",
        where=f"--{name}",
        allowed=f"{TYPES.get(kind, kind)}, such as {knobs[name]!r}",
    )
