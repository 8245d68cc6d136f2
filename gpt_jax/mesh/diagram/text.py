"""A picture as text, in the characters that draw boxes."""

from gpt_jax.mesh.diagram import Graph
from gpt_jax.mesh.diagram.layout import arrange
from gpt_jax.mesh.diagram.picture import Frame, Line, headlines

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
STROKES = dict(
    zip(
        (UP | DOWN, LEFT | RIGHT, UP, DOWN, LEFT, RIGHT)
        + (DOWN | RIGHT, DOWN | LEFT, UP | RIGHT, UP | LEFT)
        + (UP | DOWN | RIGHT, UP | DOWN | LEFT, DOWN | LEFT | RIGHT, UP | LEFT | RIGHT, UP | DOWN | LEFT | RIGHT),
        "│─││──┌┐└┘├┤┬┴┼",
        strict=True,
    )
)


def text(graph: Graph, name: str = "") -> str:
    """The drawing of a graph, below its name and title."""
    picture = arrange(graph)
    cells: dict[tuple[int, int], str] = {}
    strokes: dict[tuple[int, int], int] = {}
    for frame in picture.frames:
        _frame(cells, frame)
    for line in picture.lines:
        _stroke(cells, strokes, line)
    for at, stroke in strokes.items():
        cells[at] = STROKES[stroke]
    for line in picture.lines:
        if line.arrow:
            cells[line.points[-1]] = _tip(line)
    for label in picture.labels:
        _write(cells, label.x, label.y, label.text)
    rows = ["".join(cells.get((x, y), " ") for x in range(picture.width)).rstrip() for y in range(picture.height)]
    head = [line for line in (name, *graph.title) if line]
    return "\n".join([*head, *([""] if head else []), *rows]) + "\n"


def _write(cells: dict, x: int, y: int, words: str) -> None:
    for i, letter in enumerate(words):
        cells[x + i, y] = letter


def _frame(cells: dict, frame: Frame) -> None:
    if frame.box.kind == "op":
        _write(cells, frame.x, frame.y, f"({frame.box.lines[0]})")
        return
    right, foot = frame.x + frame.width - 1, frame.y + frame.height - 1
    _write(cells, frame.x, frame.y, "┌" + "─" * (frame.width - 2) + "┐")
    _write(cells, frame.x, foot, "└" + "─" * (frame.width - 2) + "┘")
    for y in range(frame.y + 1, foot):
        cells[frame.x, y] = cells[right, y] = "│"
    if frame.box.inner is not None:
        left, end = headlines(frame.box)
        _write(cells, frame.x + frame.title - 1, frame.y, f" {left} ")
        _write(cells, right - len(end) - 3, frame.y, f" {end} " if end else "")
    else:
        for i, line in enumerate(frame.box.lines):
            _write(cells, frame.x + frame.title, frame.y + 1 + i, line)


def _stroke(cells: dict, strokes: dict, line: Line) -> None:
    for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False):
        across, down = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
        ahead = {(1, 0): RIGHT, (-1, 0): LEFT, (0, 1): DOWN, (0, -1): UP}.get((across, down), UP | DOWN)
        behind = {RIGHT: LEFT, LEFT: RIGHT, DOWN: UP, UP: DOWN}.get(ahead, 0)
        steps = max(abs(x1 - x0), abs(y1 - y0))
        for i in range(steps + 1):
            at = (x0 + i * across, y0 + i * down)
            strokes[at] = strokes.get(at, 0) | (ahead if i < steps or not steps else 0) | (behind if i else 0)
    # Ends go on into the boxes above and below.
    (first, second), (last_but_one, last) = line.points[:2], line.points[-2:]
    strokes[first] |= UP if first[0] == second[0] else 0
    strokes[last] |= DOWN if last[0] == last_but_one[0] else 0


def _tip(line: Line) -> str:
    (x0, y0), (x1, y1) = line.points[-2:]
    return "▼" if x0 == x1 else ("◀" if x1 < x0 else "▶")
