"""What a drawing is made of, in cells of a grid of characters."""

import dataclasses

from gpt_jax.mesh.diagram import Box


@dataclasses.dataclass(frozen=True)
class Frame:
    """A box's place: its left upper cell and its size, borders included.

    Args:
      depth: of nesting, 0 outside all others.
      title: cells from the left to the text; on the border where there are boxes inside, else in the rows below it.
    """

    box: Box
    x: int
    y: int
    width: int
    height: int
    depth: int
    title: int


@dataclasses.dataclass(frozen=True)
class Line:
    """A path of cells, each two in a row or a column; an arrow if it ends at a box."""

    points: tuple[tuple[int, int], ...]
    arrow: bool


@dataclasses.dataclass(frozen=True)
class Label:
    """A text that starts at a cell."""

    x: int
    y: int
    text: str


@dataclasses.dataclass
class Picture:
    """Frames, lines and labels, and where lines enter at the top and leave at the bottom."""

    width: int
    height: int
    entries: list[int]
    leave: int
    frames: list[Frame] = dataclasses.field(default_factory=list)
    lines: list[Line] = dataclasses.field(default_factory=list)
    labels: list[Label] = dataclasses.field(default_factory=list)

    def put(self, other: "Picture", x: int, y: int) -> None:
        """Takes over what another one holds, moved by (x, y) and one level deeper."""
        self.frames += [dataclasses.replace(f, x=f.x + x, y=f.y + y, depth=f.depth + 1) for f in other.frames]
        self.lines += [Line(tuple((a + x, b + y) for a, b in line.points), line.arrow) for line in other.lines]
        self.labels += [Label(label.x + x, label.y + y, label.text) for label in other.labels]


def spelled(box: Box) -> str:
    """A shape as it stands beside an arrow."""
    return f"[{', '.join(box.shape)}]"


def headlines(box: Box) -> tuple[str, str]:
    """The texts on the border of a box that has others inside: left and right."""
    return box.lines[0], " · ".join(box.lines[1:])
