"""The gallery of variants, from what is registered: ``python -m docs.gallery`` writes variants.md and variants/*.svg."""

import dataclasses
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import Config, ModelConfig
from gpt_jax.configs import base
from gpt_jax.mesh.diagram import Graph, alone
from gpt_jax.mesh.diagram.svg import svg
from gpt_jax.mesh.diagram.trace import CITATION, formula, graph, paragraph
from gpt_jax.model.attention.full import Options
from gpt_jax.model.mlp.activations import ACTIVATIONS, GATES
from gpt_jax.model.mlp.dense import MLP
from gpt_jax.model.position import Position

DOCS = Path(__file__).resolve().parent
KINDS = ("attention", "block", "position", "norm", "mlp", "init")
ACTS = {"embed": "embeddings", "rotate": "queries and keys", "bias": "scores"}  # methods of a position scheme
HEAD = """# Variants

Every part of a model that a configuration can name, from the docstrings of the code. A file of your own appears here when
`make gallery` is run; [theory.md](theory.md) has the formulas in the order of the computation.

The drawings are GPT-2's 124M model with rotary positions and the one part exchanged, one layer of 12. Boxes are modules with
their parameters, arrows the arrays between them: B sequences, T tokens. `python launch.py plan --config=FILE
--diagram=text` draws any other configuration, `--diagram=FILE.svg` as here.
"""


def model(**changes: Any) -> ModelConfig:
    """The model of the drawings."""
    values = base.get_config()
    values.model.update(vocab=50257, position="rope", bias=False)
    return dataclasses.replace(Config.from_dict(values).model, **changes)


def theory(kind: str, name: str) -> str:
    """What its docstring says first, and what that of the module it makes does."""
    variant = registry.lookup(kind, name)
    said = [paragraph(variant)]
    if kind in MODULES and not inspect.isclass(variant):
        made = nnx.eval_shape(lambda: registry.build(kind, registry.typical(kind, name), *MODULES[kind](model())))
        said.append(paragraph(type(made)))
    activation = {**ACTIVATIONS, **GATES}.get(name)
    if kind == "model.mlp" and activation:
        plain, gated = formula(MLP).split(", or ")
        said = [
            f"{gated if name in GATES else plain}, activation = {activation.__name__}",
            *CITATION.findall(paragraph(MLP)),
        ]
    return _markdown(" ".join(filter(None, said)))


# What the constructors of a kind take first.
MODULES: dict[str, Callable[[ModelConfig], tuple]] = {
    "model.attention": lambda c: (c, nnx.Rngs(0)),
    "model.mlp": lambda c: (c, nnx.Rngs(0)),
}


def attention(name: str) -> Graph:
    drawn = graph(model(attention=registry.typical("model.attention", name)))
    return alone(drawn.find("attention"))


def block(name: str) -> Graph:
    drawn = graph(model(block=registry.typical("model.block", name)))
    return alone(drawn.closed("attention", "mlp").find("layer 0"))


def pages(variants: dict[str, list[str]]) -> dict[str, str]:
    """Path below docs/ -> text, of all that is made of these variants, kind by kind."""
    made = {}
    parts = [HEAD]
    for title, kind, draw in (("Attention", "attention", attention), ("Blocks", "block", block)):
        parts.append(f"## {title}\n")
        for name in variants[kind]:
            path = f"variants/{kind}-{name}.svg"
            made[path] = svg(draw(name), registry.typical(f"model.{kind}", name))
            parts.append(f"### {name}\n{theory(f'model.{kind}', name)}\n\n{_line(kind, name)}\n\n![{name}]({path})\n")
        if kind == "attention":
            parts.append(_options(variants[kind]))
    for title, kind in (("Positions", "position"), ("Norms", "norm"), ("MLPs", "mlp"), ("Initial values", "init")):
        parts.append(f"## {title}\n")
        parts.append("\n".join(_table(kind, variants[kind])) + "\n")
    made["variants.md"] = "\n".join(parts)
    return made


def _line(kind: str, name: str) -> str:
    return f'`config.model.{kind} = "{registry.typical(f"model.{kind}", name)}"` · {_source(f"model.{kind}", name)}'


def _source(kind: str, name: str) -> str:
    """A link to the file."""
    variant = registry.lookup(kind, name)
    path = Path(os.path.relpath(inspect.getsourcefile(inspect.unwrap(variant)) or "", DOCS.parent))
    return f"[{path.name}](../{path.as_posix()})"


def _options(mechanisms: list[str]) -> str:
    """The arguments that mechanisms over a softmax share, from their docstring."""
    lines = (inspect.getdoc(Options) or "").partition("Args:\n")[2]
    entries = re.findall(r"^ {2}(\w+): (.*(?:\n {4}.*)*)", lines, re.MULTILINE)
    rows = [f"| `{name}` | {_cell(_markdown(text))} |" for name, text in entries]
    names = [n for n in mechanisms if "qk_norm" in _arguments("model.attention", n)]
    head = f"### Arguments of {', '.join(names)}\n\n| argument | what it does |\n|---|---|\n"
    return head + "\n".join(rows) + "\n"


def _arguments(kind: str, name: str) -> list[str]:
    variant = registry.lookup(kind, name)
    return list(inspect.signature(variant.__init__ if inspect.isclass(variant) else variant).parameters)


def _table(kind: str, names: list[str]) -> list[str]:
    positions = kind == "position"
    rows = [f"| `config.model.{kind}` | what it is | {'acts on | ' if positions else ''}file |"]
    rows.append("|---|---|---|---|" if positions else "|---|---|---|")
    for name in names:
        acts = f"{_acts(name)} | " if positions else ""
        said = _cell(theory(f"model.{kind}", name))
        rows.append(
            f'| `"{registry.typical(f"model.{kind}", name)}"` | {said} | {acts}{_source(f"model.{kind}", name)} |'
        )
    return rows


def _acts(name: str) -> str:
    scheme = registry.lookup("model.position", name)
    return ", ".join(what for m, what in ACTS.items() if getattr(scheme, m) is not getattr(Position, m)) or "nothing"


def _markdown(docstring: str) -> str:
    return re.sub(r"``([^`]*)``", r"`\1`", " ".join(docstring.split()))


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    made = pages({kind: registry.names(f"model.{kind}") for kind in KINDS})
    (DOCS / "variants").mkdir(exist_ok=True)
    for old in (DOCS / "variants").glob("*.svg"):
        if f"variants/{old.name}" not in made:
            old.unlink()
    for path, text in made.items():
        (DOCS / path).write_text(text, encoding="utf-8")
    print(f"wrote {len(made)} files below {DOCS}")


if __name__ == "__main__":
    main()
