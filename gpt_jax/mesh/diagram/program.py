"""A recorded program as steps: calls of named functions, and the arithmetic between them."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import jax

# Primitives that give the same numbers in another form.
FORMS = {"transpose", "reshape", "convert_element_type", "broadcast_in_dim", "squeeze", "expand_dims", "copy"}
FORMS |= {"stop_gradient", "reduce_precision"}
SUMS = {"add", "add_any", "mul", *FORMS}


@dataclasses.dataclass(frozen=True)
class Call:
    """A named function's call. ``inputs`` number the program's inputs first, then its steps."""

    name: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    inner: "Program"


@dataclasses.dataclass(frozen=True)
class Step:
    """Arithmetic between calls.

    Args:
      primitives: names of JAX's.
      formula: what it computes where that is a weighed sum, with {0}, {1}, … for the inputs; empty where it is not.
    """

    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    primitives: tuple[str, ...]
    formula: str = ""

    @property
    def plain_sum(self) -> bool:
        return not set(self.formula) & set("·()") and "w" not in self.formula


@dataclasses.dataclass(frozen=True)
class Program:
    """Steps, each after its inputs; the result is what the last one gives, or input 0 where there is none.

    Args:
      inputs: shapes of what enters.
      used: which of the arrays that could enter do.
    """

    inputs: tuple[tuple[int, ...], ...]
    steps: tuple[Call | Step, ...]
    used: tuple[int, ...]


def record(run: Callable, *args: Any, dynamic: int, names: Collection[str]) -> Program:
    """The program of ``run(*args)``, with calls of jitted functions that have one of ``names`` as steps.

    Args:
      dynamic: the argument whose way through the program is of interest; what depends on no other than the rest
        (parameters, masks) is not followed.
    """
    jaxpr = jax.make_jaxpr(run)(*args).jaxpr
    first = len(jax.tree.leaves(args[:dynamic]))
    count = len(jax.tree.leaves(args[dynamic]))
    return _Reader(jaxpr, list(range(first, first + count)), names).program()


@dataclasses.dataclass
class _Node:
    """A call, or an equation. ``sources`` are inputs (negative: -1 - position) or nodes."""

    sources: list[int]
    shape: tuple[int, ...]
    equation: Any
    inner: Program | None = None
    height: int = 0


class _Reader:
    def __init__(self, jaxpr: Any, entering: list[int], names: Collection[str]):
        self.jaxpr, self.entering, self.names = jaxpr, entering, names
        self.nodes: list[_Node] = []
        self.of: dict[Any, int] = {jaxpr.invars[i]: -1 - place for place, i in enumerate(entering)}

    def program(self) -> Program:
        for equation in self.jaxpr.eqns:
            self._read(equation)
        result = self._source(self.jaxpr.outvars[0])
        if result is None:
            result = -1
        kept = self._reaching(result)
        self._measure(kept)
        groups = self._groups(kept)
        return self._steps(groups, kept)

    def _source(self, var: Any) -> int | None:
        return None if hasattr(var, "val") else self.of.get(var)

    def _read(self, equation: Any) -> None:
        sources = [self._source(var) for var in equation.invars]
        moving = [s for s in sources if s is not None]
        name = equation.params.get("name")
        called = name in self.names and "jaxpr" in equation.params
        if not moving and not called:
            return
        inner = None
        if called:
            entering = [i for i, source in enumerate(sources) if source is not None]
            inner = _Reader(equation.params["jaxpr"].jaxpr, entering, self.names).program()
            moving = [moving[place] for place in inner.used]
            if not inner.steps and moving:  # it gives back what it got
                self.of[equation.outvars[0]] = moving[0]
                return
        elif equation.primitive.name in FORMS and len(moving) == 1:
            self.of[equation.outvars[0]] = moving[0]
            return
        self.nodes.append(_Node(moving, tuple(equation.outvars[0].aval.shape), equation, inner))
        for var in equation.outvars:
            self.of[var] = len(self.nodes) - 1

    def _reaching(self, result: int) -> list[int]:
        """The nodes that the result depends on, in order."""
        found: set[int] = set()
        todo = [result]
        while todo:
            at = todo.pop()
            if at >= 0 and at not in found:
                found.add(at)
                todo += self.nodes[at].sources
        return sorted(found)

    def _measure(self, kept: list[int]) -> None:
        """Sets each node's height: how many calls at most lie between it and the result."""
        for at in reversed(kept):
            node = self.nodes[at]
            above = node.height + (node.inner is not None)
            for source in node.sources:
                if source >= 0:
                    self.nodes[source].height = max(self.nodes[source].height, above)

    def _groups(self, kept: list[int]) -> dict[int, int]:
        """Node -> the last node of its group: equations of one height that hang together; no call lies between them."""
        group = {at: at for at in kept}

        def find(at):
            while group[at] != at:
                at = group[at]
            return at

        for at in kept:
            node = self.nodes[at]
            if node.inner is None:
                for source in node.sources:
                    if source >= 0 and self.nodes[source].inner is None and self.nodes[source].height == node.height:
                        low, high = sorted((find(source), find(at)))
                        group[low] = high
        return {at: find(at) for at in kept}

    def _steps(self, groups: dict[int, int], kept: list[int]) -> Program:
        members: dict[int, list[int]] = {}
        for at in kept:
            members.setdefault(groups[at], []).append(at)
        outside = {last: self._outside(nodes, groups) for last, nodes in members.items()}
        used = sorted({-1 - s for sources in outside.values() for s in sources if s < 0}) or [0]
        number = {-1 - place: i for i, place in enumerate(used)}
        steps: list[Call | Step] = []
        for last in sorted(members, key=lambda last: max([last, *members[last]])):
            node, sources = self.nodes[last], outside[last]
            inputs = tuple(number[s] for s in sources)
            if node.inner is not None:
                steps.append(Call(node.equation.params["name"], inputs, node.shape, node.inner))
            else:
                steps.append(self._step(members[last], sources, inputs))
            number[last] = len(used) + len(steps) - 1
        shapes = tuple(tuple(self.jaxpr.invars[self.entering[place]].aval.shape) for place in used if self.entering)
        return Program(shapes, tuple(steps), tuple(used) if self.entering else ())

    def _outside(self, nodes: list[int], groups: dict[int, int]) -> list[int]:
        """The inputs and groups that a group reads; for a call, one for each of its arguments."""
        found = [s for at in nodes for s in self.nodes[at].sources]
        found = [s if s < 0 else groups[s] for s in found]
        if self.nodes[nodes[0]].inner is not None:
            return found
        return [s for s in dict.fromkeys(found) if s < 0 or s != groups[nodes[0]]]

    def _step(self, nodes: list[int], sources: list[int], inputs: tuple[int, ...]) -> Step:
        names = tuple(self.nodes[at].equation.primitive.name for at in nodes)
        names = tuple(self.nodes[at].equation.params.get("name", n) for at, n in zip(nodes, names, strict=True))
        formula = ""
        if set(names) <= SUMS:
            places = {s: f"{{{i}}}" for i, s in enumerate(sources)}
            formula = self._formula(self.nodes[nodes[-1]].equation.outvars[0], set(nodes), places)
        return Step(inputs, self.nodes[nodes[-1]].shape, names, formula)

    def _formula(self, var: Any, nodes: set[int], places: dict[int, str]) -> str:
        source = self._source(var)
        if source is None:
            value = getattr(var, "val", None)
            return "w" if value is None else f"{float(value):.4g}"
        if source not in nodes:
            return places.get(source, "x")
        equation = self.nodes[source].equation
        parts = [self._formula(v, nodes, places) for v in equation.invars]
        if equation.primitive.name in FORMS:
            return parts[0]
        if equation.primitive.name == "mul":
            return "·".join(f"({p})" if " + " in p else p for p in parts if p != "1")
        return " + ".join(parts)
