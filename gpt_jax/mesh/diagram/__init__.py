"""A picture of what a model computes, drawn from the model itself: boxes are its modules, arrows the arrays between them.

``trace`` runs the model on shapes and keeps what its modules gave each other, ``layout`` places that on a grid of
characters, ``text`` and ``svg`` paint the grid.
"""

import dataclasses
from typing import Union

Shape = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Box:
    """A step of the computation.

    Args:
      name: of the module in its parent.
      kind: the folder or file of ``gpt_jax/model`` it is from; "op" for a weighed sum of what modules give, "between"
        for other arithmetic, "in" for what enters.
      lines: what is written into it.
      shape: of the array it gives.
      inputs: the boxes of the same graph that it reads.
      inner: what it is made of, where that is drawn too; the "in" boxes of it stand for ``inputs``, in order.
    """

    name: str
    kind: str
    lines: tuple[str, ...]
    shape: Shape
    inputs: tuple[int, ...]
    inner: Union["Graph", None] = None


@dataclasses.dataclass(frozen=True)
class Graph:
    """Boxes in an order in which each follows its inputs; the last one's array is the result."""

    boxes: tuple[Box, ...]
    title: tuple[str, ...] = ()

    def find(self, name: str) -> Box:
        """The first box of a name, at any depth.

        Raises:
          KeyError: there is none.
        """
        for box in self.boxes:
            if box.name == name:
                return box
            if box.inner is not None:
                try:
                    return box.inner.find(name)
                except KeyError:
                    pass
        raise KeyError(name)

    def closed(self, *names: str) -> "Graph":
        """The same without the insides of the boxes of these names."""

        def close(box: Box) -> Box:
            if box.inner is None or box.name in names:
                return dataclasses.replace(box, inner=None)
            return dataclasses.replace(box, inner=box.inner.closed(*names))

        return dataclasses.replace(self, boxes=tuple(close(box) for box in self.boxes))


def alone(box: Box) -> Graph:
    """A box that has others inside as a graph of its own."""
    assert box.inner is not None
    entering = tuple(other for other in box.inner.boxes if other.kind == "in")
    return Graph((*entering, dataclasses.replace(box, inputs=tuple(range(len(entering))))))
