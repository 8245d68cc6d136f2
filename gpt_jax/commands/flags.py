"""Flags, read in one way for all verbs: ``--name value`` and ``--name=value`` alike, ``~`` expanded in paths.

A verb declares its flags on ``Flags``; ``parse`` reads a command line into an object with an attribute for each. Flags
of a configuration (``--config.optim.lr=1e-3``) are those of the file that --config names, or of the run in --workdir.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from absl import flags as absl_flags
from ml_collections import ConfigDict, config_flags

from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.storage import local_path

Tables = Mapping[str, ConfigDict]


class Flags:
    """The flags that a verb declares, and what reads them."""

    def __init__(self, verb: str):
        self.verb = verb
        self._known = absl_flags.FlagValues()
        self._known.set_gnu_getopt(True)
        self._paths: set[str] = set()
        self._required: list[tuple[str, str]] = []
        self._tables: Callable[[Any], Tables] | None = None
        self.boolean("debug", False, "show tracebacks")
        self.boolean("help", False, "show this help")

    def string(self, name: str, default: str | None, help: str, required: str = "") -> None:
        """``required``: an example of the flag where it has to be given."""
        absl_flags.DEFINE_string(name, default, help, flag_values=self._known)
        if required:
            self._required.append((name, required))

    def path(self, name: str, default: str | None, help: str, required: str = "") -> None:
        self.string(name, default, help, required)
        self._paths.add(name)

    def integer(self, name: str, default: int | None, help: str, least: int | None = None) -> None:
        absl_flags.DEFINE_integer(name, default, help, lower_bound=least, flag_values=self._known)

    def number(self, name: str, default: float, help: str) -> None:
        absl_flags.DEFINE_float(name, default, help, flag_values=self._known)

    def boolean(self, name: str, default: bool, help: str) -> None:
        absl_flags.DEFINE_bool(name, default, help, flag_values=self._known)

    def choice(self, name: str, default: str, options: Sequence[str], help: str) -> None:
        absl_flags.DEFINE_enum(name, default, list(options), help, flag_values=self._known)

    def tables(self, make: Callable[[Any], Tables]) -> None:
        """Settings whose every knob is a flag: ``make(values)`` gives them by name, from the flags that were read."""
        self._tables = make

    def names(self) -> list[str]:
        return [name for name in self._known if name not in ("flagfile", "undefok")]

    def describe(self) -> str:
        """The flags, a line each."""
        rows = []
        for name in self.names():
            flag = self._known[name]
            default = "" if flag.default in (None, "", False) else f" ({flag.default})"
            rows.append(f"  --{name:<12} {flag.help}{default}")
        return "\n".join(rows)

    def parse(self, argv: Sequence[str]) -> SimpleNamespace:
        """The values of all flags, and ``given``, the names of the settings among them; ``help`` alone where help was
        asked for.

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
        for name in (name for name in overrides if "." not in name):
            raise self._unknown(name)
        if self._tables is None and overrides:
            raise self._unknown(next(iter(overrides)))
        for name, example in self._required:
            if getattr(values, name) is None:
                raise UserError(f"--{name} is missing", where=self.verb, fix=f"add {example}")
        for name in self._paths:
            given = getattr(values, name)
            if given is not None and given != self._known[name].default:
                setattr(values, name, str(local_path(given, f"--{name}")))
        values.config_name = getattr(values, "config", None)
        values.given = frozenset(overrides)
        if self._tables is not None:
            for name, table in _overridden(self._tables(values), overrides, self._unknown).items():
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

    def _unknown(self, name: str, known: Sequence[str] = ()) -> UserError:
        near = did_you_mean(name, [*self.names(), *known])
        fix = near.replace("'", "--", 1).replace("'", "") if near else f"--help lists the flags of {self.verb}"
        return UserError(f"there is no flag --{name}", where=self.verb, fix=fix)

    def _refused(self, said: str) -> UserError:
        said = said.removeprefix("flag ")
        missing = re.search(r"Missing value for flag --(\S+)", said)
        return UserError(f"--{missing[1]} is given no value" if missing else said, where=self.verb)


def _overridden(tables: Tables, overrides: Mapping[str, str | None], unknown: Callable) -> dict[str, ConfigDict]:
    knobs = {f"{name}.{knob}": value for name, table in tables.items() for knob, value in _knobs(table).items()}
    for name, given in overrides.items():
        positive = name.removeprefix("no") if name not in knobs and name.startswith("no") else name
        if positive not in knobs:
            raise _no_knob(name, knobs, unknown)
        if given is None and not isinstance(knobs[positive], bool):
            raise UserError(f"--{name} is given no value", where=f"--{name}")
    words = [f"--{name}" if given is None else f"--{name}={given}" for name, given in overrides.items()]
    flag = absl_flags.FlagValues()
    for name, table in tables.items():
        config_flags.DEFINE_config_dict(name, table, flag_values=flag, sys_argv=["", *words])
    try:
        flag(["", *words])
    except (absl_flags.Error, TypeError, ValueError) as error:
        raise _wrong_value(str(error), overrides, knobs) from None
    return {name: flag[name].value for name in tables}


def _knobs(table: ConfigDict) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        inner = {f"{key}.{k}": v for k, v in _knobs(value).items()} if isinstance(value, ConfigDict) else {key: value}
        found |= inner
    return found


def _no_knob(name: str, knobs: Mapping[str, Any], unknown: Callable) -> UserError:
    """An unknown knob: near ones are those of the same last name in other sections, then those spelt alike."""
    same = [knob for knob in knobs if knob.rpartition(".")[2] == name.rpartition(".")[2] and "." in name]
    if same:
        return UserError(f"there is no knob {name}", where=f"--{name}", fix=f"did you mean --{same[0]}?")
    error = unknown(name, list(knobs))
    if "." not in name:
        return error
    section = name.rpartition(".")[0]
    there = [knob.rpartition(".")[2] for knob in knobs if knob.startswith(f"{section}.")]
    allowed = f"{section}.: {', '.join(there)}" if there else ""
    return UserError(f"there is no knob {name}", where=f"--{name}", allowed=allowed, fix=error.fix)


def _wrong_value(said: str, overrides: Mapping[str, str | None], knobs: Mapping[str, Any]) -> UserError:
    found = re.search(r"--([\w.]+)=", said) or re.search(r"(\w+(?:\.\w+)+)", said)
    name = found[1] if found and found[1] in overrides else next(iter(overrides), "")
    kind = type(knobs.get(name)).__name__
    reason = said.splitlines()[-1].partition(": ")[2] if said else ""
    return UserError(
        f"--{name}={overrides.get(name)} cannot be read: {reason}",
        where=f"--{name}",
        allowed="" if kind == "object" else f"a value like {knobs.get(name)!r} ({kind})",
    )
