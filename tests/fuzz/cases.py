"""Cases: a command line and the files it reads, drawn from a seed."""

import inspect
import json
import random
import shutil
import typing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gpt_jax import registry
from gpt_jax.commands.flags import Flags
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.sample.knobs import ORDERS
from tests.fuzz import kit, values

Draw = random.Random


@dataclass
class Case:
    """A command that may be wrong in any way. ``made``: what it would make, below the case's folder."""

    seed: str
    argv: list[str] = field(default_factory=list)
    made: Path | None = None


def flags_of(verb: str) -> Flags:
    flags = Flags(verb)
    registry.lookup("commands", verb)().define(flags)
    return flags


def knobs() -> dict[str, object]:
    """Dotted name -> default of every knob."""
    return {f"{s}.{k}": value for s, table in base.get_config().to_dict().items() for k, value in table.items()}


def call(draw: Draw, kind: str, paths: dict[str, Path]) -> str:
    """A variant of a kind with some of its arguments, or what looks like one."""
    if draw.random() < 0.1:
        return values.text(draw)
    name = draw.choice(registry.names(kind))
    parameters = registry._signature(registry.lookup(kind, name)).parameters.values()
    own = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("scanned",)]
    arguments = []
    for p in own:
        needed = p.default is inspect.Parameter.empty
        if draw.random() < (0.95 if needed else 0.3):
            arguments.append(f"{p.name}={_literal(draw, p, paths)}")
    return f"{name}({', '.join(arguments)})" if arguments else name


def _literal(draw: Draw, p: inspect.Parameter, paths: dict[str, Path]) -> str:
    if p.name == "path" and draw.random() < 0.9:
        return repr(str(draw.choice([*paths.values()])))
    if p.name == "scaling":
        return repr(_scaling(draw))
    known = str(p.annotation)
    if "int" in known or "float" in known:
        return draw.choice([values.whole, values.whole, values.real])(draw) or "0"
    if "bool" in known:
        return draw.choice(["True", "False", "1", "None"])
    if "tuple" in known:
        return values.like(draw, ())
    return repr(draw.choice(["none", "rms", "rope", "swiglu", "softmax", "", "x(", values.text(draw)]))


def _scaling(draw: Draw) -> dict:
    fields = {"factor": 4.0, "original": 8, "low": 1.0, "high": 4.0, "beta_fast": 32.0, "beta_slow": 1.0}
    some = {key: draw.choice([value, 0, -1, 2**63, 1e308]) for key, value in fields.items() if draw.random() < 0.4}
    return {"kind": draw.choice(["linear", "ntk", "yarn", "llama3", "x"])} | some


def changes(draw: Draw, shared: Path, count: int, *sections: str) -> dict[str, str]:
    """Knobs, of some sections or of any, set to what may be wrong."""
    named = {key: kind for kind, key, _ in _kinds()}
    sections = sections or tuple(typing.get_type_hints(Config))
    known = {key: default for key, default in knobs().items() if key.split(".")[0] in sections}
    found = {}
    for key in draw.sample(sorted(known), min(count, len(known))):
        if key == "sample.processors":
            found[key] = repr(tuple(call(draw, key, files(shared)) for _ in range(draw.randint(0, 2))))
        elif key == "sample.order" and draw.random() < 0.8:
            found[key] = draw.choice(sorted(ORDERS))
        elif key == "data.cache":
            found[key] = values.place(draw)
        elif key in named:
            found[key] = call(draw, named[key], files(shared))
        else:
            found[key] = values.of(draw, _annotation(key), known[key])
    return found


def _annotation(key: str) -> object:
    section, name = key.split(".")
    return typing.get_type_hints(typing.get_type_hints(Config)[section], include_extras=True)[name]


def _kinds() -> list[tuple[str, str, tuple]]:
    from gpt_jax import config

    more = [("data.sources", "data.source", ()), ("data.tokenizers", "data.tokenizer", ())]
    return [*config._named(Config.from_dict(base.get_config())), *more, ("mesh.rules", "mesh.rules", ())]


def files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.iterdir()) if path.name not in ("stdout.txt", "stderr.txt")}


def data_file(draw: Draw, folder: Path, shared: Path) -> tuple[str, str]:
    """A source of data whose file is damaged, and a tokenizer."""
    match draw.randrange(4):
        case 0:
            path = folder / "text.txt"
            text = (shared / kit.TEXT).read_bytes()
            path.write_bytes(
                draw.choice([text, b"caf\xe9 " * 99, "日本語\n".encode("utf-16") * 40, b"\r\n" * 500, b"a"])
            )
            if draw.random() < 0.7:
                path.write_bytes(values.damage(draw, path.read_bytes()))
            return f"text(path={str(path)!r})", draw.choice(["bytes", "chars", "bpe(vocab_size=260)", "none"])
        case 1:
            path = folder / draw.choice(["tokens.bin", "tokens.npy"])
            kind = draw.choice(["<u2", "<u4", "<i4", "<i8", "<f4", "u1", "<u8"])
            ids = np.arange(draw.choice([0, 1, 15, 17, 600])).astype(kind)
            if path.suffix == ".npy":
                np.save(path, draw.choice([ids, ids.reshape(-1, 1), ids.astype(object)[:3]]), allow_pickle=True)
            else:
                head = np.zeros(256, "<i4")
                head[:3] = (
                    draw.choice([20240520, 20240801]),
                    draw.choice([1, 7, 9]),
                    draw.choice([-1, 0, 600, 2**31 - 1]),
                )
                path.write_bytes((head.tobytes() if draw.random() < 0.5 else b"") + ids.tobytes())
            if draw.random() < 0.5:
                path.write_bytes(values.damage(draw, path.read_bytes()))
            return f"tokens(path={str(path)!r}, vocab={draw.choice(['600', values.whole(draw) or '1'])})", "none"
        case 2:
            path = folder / "tokenizer.json"
            path.write_bytes(values.json_text(draw, tokenizer_json()))
            return f"text(path={str(shared / kit.TEXT)!r})", f"file(path={str(path)!r})"
        case _:
            path = folder / "texts"
            path.mkdir()
            for name in ("a.txt", "b\udcff.txt", ".hidden", "c d.txt"):
                (path / name).write_bytes(values.damage(draw, (shared / kit.TEXT).read_bytes()))
            (path / "loop").symlink_to("loop")
            return f"text(path={str(path)!r})", draw.choice(["bytes", "chars"])


def tokenizer_json() -> dict:
    """A byte-level tokenizer as Hugging Face writes it."""
    letters = [chr(i) for i in range(33, 127)] + ["Ġ", "Ċ"]
    vocab = {letter: i for i, letter in enumerate([*letters, "to", "be"])} | {"<|endoftext|>": len(letters) + 2}
    special = {"id": len(letters) + 2, "content": "<|endoftext|>", "special": True, "single_word": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special | {"lstrip": False, "rstrip": False, "normalized": False}],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "unk_token": None,
            "fuse_unk": False,
            "vocab": vocab,
            "merges": [["t", "o"], ["b", "e"]],
        },
    }


def damaged_copy(draw: Draw, source: Path, target: Path, often: float = 0.8) -> Path:
    """A copy of a directory in which a file, mostly a small one, is damaged, gone, or something else by that name."""
    shutil.copytree(source, target, symlinks=True)
    inside = sorted(path for path in target.rglob("*") if path.is_file())
    while draw.random() < often:
        often /= 2
        path = draw.choice([p for p in inside if p.suffix in (".json", ".jsonl", ".sha256", ".csv")] or inside)
        path = draw.choice([path, path, path, draw.choice(inside)])
        if not path.is_file():
            continue
        data = path.read_bytes()
        path.unlink()
        match draw.randrange(12):
            case 0:
                path.mkdir()
            case 1:
                path.symlink_to(path)
            case 2:
                pass
            case 3 | 4 | 5 | 6 if path.suffix == ".json":
                path.write_bytes(_damaged_json(draw, data))
            case _:
                path.write_bytes(values.damage(draw, data))
    return target


def _damaged_json(draw: Draw, data: bytes) -> bytes:
    try:
        return values.json_text(draw, json.loads(data))
    except (ValueError, RecursionError):  # it is damaged already
        return values.damage(draw, data)


def own_flags(draw: Draw, verb: str, skipped: tuple[str, ...]) -> list[str]:
    """Some of the flags of a verb that are not paths."""
    flags = flags_of(verb)
    names = [n for n in flags.names() if n not in (*skipped, "help", "h", "debug") and n not in flags._paths]
    found = []
    for name in names:
        if draw.random() < 0.3:
            kind = flags._known[name].flag_type()
            default = {"int": 1, "float": 1.0, "bool": False}.get(kind, "")
            options = getattr(flags._known[name].parser, "enum_values", None)
            value = draw.choice(options) if options and draw.random() < 0.8 else values.like(draw, default)
            found.append(f"--{name}={value}")
    return found


def odd_words(draw: Draw) -> list[str]:
    """Words that are no flags of anything."""
    if draw.random() > 0.04:
        return []
    return [
        draw.choice([*values.TEXTS, "--", "---", "-", "--=", "--config.", "--config.model", "--flagfile=.", "--no"])
    ]
