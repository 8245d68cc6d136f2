"""What modules of a model give each other, found by running the model on shapes.

Every call of a module, and every method of a position scheme, becomes a compiled function with a name of its own, so that
it shows in the program that JAX records. What is left between them is either a sum of residual stream and branch, or the
inside of the module around it.
"""

import dataclasses
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax.config import ModelConfig
from gpt_jax.mesh.diagram import Box, Graph, Shape
from gpt_jax.mesh.diagram.program import Call, Program, Step, record
from gpt_jax.model import gpt
from gpt_jax.model.attend import Reach
from gpt_jax.model.position import Position

WIDTH = 46  # characters of a line in a box
UNSAID = ("backend", "rank_in", "heads")  # settings that shapes or the head line show already
CITATION = re.compile(r"\s*\((?:[^()]|\([^()]*\))*\b(?:19|20)\d\d\b(?:[^()]|\([^()]*\))*\)")


def graph(config: ModelConfig) -> Graph:
    """The whole model, one period of its layers drawn.

    Args:
      config: with a vocabulary.
    """
    return Tracer(config).graph()


def paragraph(thing: Any) -> str:
    """The first paragraph of its docstring, as one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def formula(thing: Any) -> str:
    """The first paragraph of its docstring without the papers and references."""
    return CITATION.sub("", paragraph(thing)).partition("; see")[0].replace("``", "").rstrip(".")


class Probe:
    """A module whose calls are recorded; otherwise the module."""

    def __init__(self, module: Any, call: Callable):
        self._module, self._call = module, call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@dataclasses.dataclass(frozen=True)
class About:
    """What is to be written of a recorded call."""

    name: str
    kind: str
    module: Any
    parameters: dict[str, tuple[int, ...]]
    own: dict[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()
    method: str = ""


class Tracer:
    """Builds a model on shapes, records it, and says what its boxes are."""

    def __init__(self, config: ModelConfig):
        # Stacked layers are built at once, whatever their number; the reference backend calls everything by its name.
        self.config = dataclasses.replace(config, attend="reference", scan=True, remat="none")
        self.abouts: dict[str, About] = {}
        abstract = nnx.eval_shape(lambda: gpt.GPT(self.config, nnx.Rngs(params=0)))
        self.graphdef, self.state = nnx.split(abstract)
        taken = {size for leaf in jax.tree.leaves(self.state) for size in leaf.shape}
        free = (t for t in range(config.context, 0, -1) if t not in taken)
        self.letters = {next(free, config.context): "T", 10007: "B"}

    def graph(self) -> Graph:
        length, batch = self.letters
        tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32)
        program = record(self._run, self.state, tokens, dynamic=1, names=self.abouts)
        boxes = _folded(list(self._boxes(program, None, ("tokens",))), self.config)
        total = sum(leaf.size for leaf in jax.tree.leaves(self.state))
        return Graph(boxes, self._title(total))

    def _title(self, total: int) -> tuple[str, ...]:
        c = self.config
        heads = f"{c.heads} heads of {c.head_dim}" + (f", {c.kv_heads} kv heads" if c.kv_heads != c.heads else "")
        sizes = f"{c.layers} layers · width {c.width} · {heads} · context {c.context} · vocabulary {c.vocab:,}"
        rest = f"init {c.init} · {c.dtype}" + (f" · dropout {c.dropout:g}" if c.dropout else "")
        return f"{total:,} parameters", sizes, rest

    def _run(self, state: Any, tokens_BT: jax.Array) -> jax.Array:
        model = nnx.merge(self.graphdef, state)
        period = len(self.config.attentions)
        # One layer of each mechanism, as in a model that is not stacked and has no others.
        for key in [str(j) for j in range(period)]:
            block = jax.tree.map(lambda leaf: leaf[0], model.blocks[key])
            self._install(block)
            vars(model.blocks)[key] = self._probe(f"layer {key}", block)
        vars(model)["config"] = dataclasses.replace(self.config, scan=False, layers=period)
        for name in ("embed", "norm"):
            module = getattr(model, name)
            if module is not None:
                self._install(module)
                vars(model)[name] = self._probe(name, module)
        cap = self.config.logit_softcap
        tied = ["w = embed.tokens.w transposed"] if self.config.tied else []
        notes = (*tied, *([f"softcap={cap:g}"] if cap else []))
        readout = self._probe("readout", model.readout, model.logits, notes=notes)
        return readout(model.hidden(tokens_BT)[0])

    def _install(self, parent: Any) -> None:
        """Puts probes in the place of the modules below ``parent``."""
        for name, module in list(vars(parent).items()):
            if isinstance(module, Position):
                for method in ("embed", "rotate", "bias"):
                    bound = getattr(module, method)
                    object.__setattr__(module, method, self._probe(name, module, bound, method=method).__call__)
            elif isinstance(module, nnx.Module):
                self._install(module)
                if callable(module):
                    vars(parent)[name] = self._probe(name, module)

    def _probe(self, name: str, module: Any, call: Callable | None = None, **said: Any) -> Probe:
        key = f"box{len(self.abouts)}"
        kind = type(module).__module__.removeprefix("gpt_jax.model.").split(".")[0]
        parameters, own = dict(_parameters(module, True)), dict(_parameters(module, False))
        self.abouts[key] = About(name, kind, module, parameters, own, **said)
        original = module if call is None else call

        def recorded(*args):
            where = [i for i, arg in enumerate(args) if isinstance(arg, jax.Array)]

            def run(*arrays):
                given = list(args)
                for i, array in zip(where, arrays, strict=True):
                    given[i] = array
                return original(*given)

            run.__name__ = key
            return jax.jit(run)(*(args[i] for i in where))

        return Probe(module, recorded)

    def _boxes(self, program: Program, about: About | None, entering: tuple[str, ...]) -> tuple[Box, ...]:
        boxes = [Box(name, "in", (), self._shape(program.inputs[i]), ()) for i, name in enumerate(entering)]
        main = max((s for s in program.steps if isinstance(s, Step)), key=lambda s: len(s.primitives), default=None)
        names = list(entering)
        for step in program.steps:
            if isinstance(step, Call):
                box = self._called(step, tuple(names[i] for i in step.inputs))
            else:
                box = self._between(step, about if step is main else None, names)
            names.append(box.name)
            boxes.append(box)
        return tuple(boxes)

    def _called(self, call: Call, entering: tuple[str, ...]) -> Box:
        about = self.abouts[call.name]
        title = f"{about.name} · {type(about.module).__name__}" + (f".{about.method}" if about.method else "")
        shape = self._shape(call.shape)
        inner_calls = [step for step in call.inner.steps if isinstance(step, Call)]
        if not inner_calls:
            parameters = {} if about.method and about.name == "position" and not about.own else about.own
            lines = (title, *_said(about.module), *about.notes, *_listed(parameters), *_count(about.parameters))
            return Box(about.name, about.kind, lines, shape, call.inputs)
        # Arguments come after what a call reads besides.
        inside = Graph(self._boxes(call.inner, about, (*entering[:-1], "x")))
        plain = not any(box.lines and box.kind == about.kind for box in inside.boxes)
        lines = (title, *_count(about.parameters), *(_listed(about.own) if plain else ()))
        return Box(about.name, about.kind, lines, shape, call.inputs, inside)

    def _between(self, step: Step, about: About | None, names: list[str]) -> Box:
        shape = self._shape(step.shape)
        if step.formula:
            text = step.formula.format(*("x" if names[i] == "+" else names[i] for i in step.inputs))
            return Box("+", "op", ("+" if step.plain_sum else text,), shape, step.inputs)
        if about is None:
            return Box("between", "between", (" · ".join(dict.fromkeys(step.primitives)),), shape, step.inputs)
        lines = (*_said(about.module), *_listed(about.own))
        lines = (*textwrap.wrap(formula(type(about.module)), WIDTH), *lines)
        return Box(f"inside {about.name}", about.kind, lines, shape, step.inputs)

    def _shape(self, shape: tuple[int, ...]) -> Shape:
        return tuple(self.letters.get(size, str(size)) for size in shape)


def _parameters(module: Any, deep: bool, path: str = "") -> Iterator[tuple[str, tuple[int, ...]]]:
    """(path, shape) of a module's parameters; those of modules that get a box of their own only if ``deep``."""
    for name, value in vars(module).items():
        if isinstance(value, Probe):
            if not deep:
                continue
            value = value._module
        if isinstance(value, nnx.Param):
            yield f"{path}{name}", tuple(value.shape)
        elif isinstance(value, Position) and not deep:
            continue
        elif isinstance(value, nnx.Module) and (deep or not callable(value)):
            yield from _parameters(value, deep, f"{path}{name}.")


def _said(module: Any) -> list[str]:
    """A module's settings, as "name=value"; those that are off, and factors of 1, are not named."""
    words = []
    for name, value in vars(module).items():
        if dataclasses.is_dataclass(value) and not isinstance(value, ModelConfig):
            words += _fields(value)
        elif isinstance(value, bool | int | float | str) and name not in UNSAID:
            words += _field(name, value)
    return textwrap.wrap(" ".join(words), WIDTH)


def _fields(settings: Any) -> list[str]:
    if getattr(settings, "kind", "") == "none":
        return []
    words = ["causal"] if isinstance(settings, Reach) else []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        words += _fields(value) if dataclasses.is_dataclass(value) else _field(field.name, value)
    return words


def _field(name: str, value: Any) -> list[str]:
    neutral = value == 1 and isinstance(value, float)
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return [f"{name}={shown}"] if value and not neutral and not name.startswith("_") else []


def _listed(parameters: dict[str, tuple[int, ...]]) -> list[str]:
    ordered = sorted(parameters.items(), key=lambda item: -math.prod(item[1]))
    return [f"{path} [{', '.join(map(str, shape))}]" for path, shape in ordered]


def _count(parameters: dict[str, tuple[int, ...]]) -> list[str]:
    total = sum(math.prod(shape) for shape in parameters.values())
    return [f"{total:,} parameters"] if total else []


def _folded(boxes: list[Box], config: ModelConfig) -> tuple[Box, ...]:
    """Draws equal neighbours among the layers once, and says which layers a drawing stands for."""
    layers = [i for i, box in enumerate(boxes) if box.name.startswith("layer ")]
    runs: list[list[int]] = []
    for i in layers:
        if runs and i - 1 == runs[-1][-1] and _alike(boxes[i - 1], boxes[i]):
            runs[-1].append(i)
        else:
            runs.append([i])
    kept = [i for i in range(len(boxes)) if i not in layers or i in [run[0] for run in runs]]
    number = {old: new for new, old in enumerate(kept)} | {i: kept.index(run[0]) for run in runs for i in run}
    for run in runs:
        first = boxes[run[0]]
        title = _which(run[0] - layers[0], len(run), len(layers), config.layers) + first.lines[0].removeprefix(
            first.name
        )
        boxes[run[0]] = dataclasses.replace(first, lines=(title, *first.lines[1:]))
    return tuple(dataclasses.replace(boxes[i], inputs=tuple(number[s] for s in boxes[i].inputs)) for i in kept)


def _alike(one: Box, other: Box) -> bool:
    """Whether two layers that follow each other differ in nothing but their place."""
    same = one.lines[1:] == other.lines[1:] and one.inner == other.inner and one.inputs[1:] == other.inputs[1:]
    return same and one.lines[0].removeprefix(one.name) == other.lines[0].removeprefix(other.name)


def _which(first: int, count: int, period: int, layers: int) -> str:
    if period == 1:
        return f"layer × {layers}"
    numbers = f"layer {first + 1}" if count == 1 else f"layers {first + 1} to {first + count}"
    return numbers if period == layers else f"{numbers} of every {period} · × {count * layers // period}"
