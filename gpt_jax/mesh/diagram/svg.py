"""A picture as SVG. Letters are as wide as a cell, so that what fits the grid fits the boxes."""

from collections.abc import Iterator
from html import escape

from gpt_jax.mesh.diagram import Graph
from gpt_jax.mesh.diagram.layout import arrange
from gpt_jax.mesh.diagram.picture import Frame, Label, Line, headlines

CELL_X, CELL_Y, MARGIN = 8, 18, 16  # pixels
FONT = "'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"
SIZE = 13  # at which these fonts are a cell wide
# Fill and border by kind: tints of the colours of Okabe & Ito (2008), which colour-blind readers can tell apart.
COLOURS = {
    "attention": ("#e3f0fa", "#0072b2"),
    "mlp": ("#fdf0dd", "#e69f00"),
    "norm": ("#e0f3ec", "#009e73"),
    "position": ("#f9e9f2", "#cc79a7"),
    "block": ("#fafafa", "#777777"),
    "op": ("#ffffff", "#333333"),
    "linear": ("#ffffff", "#56b4e9"),
}
OTHERS = ("#fdf9dc", "#a89b00")


def svg(graph: Graph, name: str = "") -> str:
    """The drawing of a graph, below its name and title, as the text of an SVG file."""
    picture = arrange(graph)
    head = [line for line in (name, *graph.title) if line]
    top = MARGIN + len(head) * CELL_Y + (CELL_Y // 2 if head else 0)
    width = 2 * MARGIN + CELL_X * max([picture.width, *(len(line) for line in head)])
    height = top + CELL_Y * picture.height + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<title>{escape(name or 'a model')}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" '
        'markerUnits="userSpaceOnUse" orient="auto">'
        '<path d="M0,0.5 L8,4 L0,7.5 z" fill="#444444"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<g font-family="{FONT}" font-size="{SIZE}" fill="#1a1a1a">',
    ]
    for i, line in enumerate(head):
        weight = ' font-weight="bold"' if i == 0 and name else ""
        parts.append(_text(MARGIN, MARGIN + (i + 0.7) * CELL_Y, line, weight))
    parts.append(f'<g transform="translate({MARGIN},{top})">')
    for frame in sorted(picture.frames, key=lambda frame: frame.depth):
        parts += _box(frame)
    # Arrows lie above boxes: they end at borders.
    flat = {(x, f.y) for f in picture.frames if f.box.kind == "op" for x in range(f.x, f.x + f.width)}
    parts += [_path(line, flat) for line in picture.lines]
    parts += [_label(label) for label in picture.labels]
    return "\n".join([*parts, "</g>", "</g>", "</svg>"]) + "\n"


def _box(frame: Frame) -> Iterator[str]:
    fill, border = COLOURS.get(frame.box.kind, OTHERS)
    flat = frame.box.kind == "op"
    # Borders run through the middle of their cells; a sum has no cells for them.
    x, y = (frame.x + (0 if flat else 0.5)) * CELL_X, (frame.y + (0.05 if flat else 0.5)) * CELL_Y
    width, height = (frame.width - (not flat)) * CELL_X, (0.9 if flat else frame.height - 1) * CELL_Y
    round_ = height / 2 if flat else 5
    yield (
        f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round_:g}" '
        f'fill="{fill}" stroke="{border}" stroke-width="1.5"/>'
    )
    if frame.box.inner is not None:
        left, right = headlines(frame.box)
        yield from _on_border((frame.x + frame.title) * CELL_X, frame.y, left, fill, ' font-weight="bold"')
        if right:
            yield from _on_border((frame.x + frame.width - len(right) - 3) * CELL_X, frame.y, right, fill, "")
        return
    for i, line in enumerate(frame.box.lines):
        column, row = frame.x + frame.title, frame.y + (0 if flat else 1 + i)
        weight = ' font-weight="bold"' if i == 0 and line.startswith(f"{frame.box.name} · ") else ""
        yield _text(column * CELL_X, (row + 0.75) * CELL_Y, line, weight)


def _on_border(x: float, row: int, words: str, fill: str, style: str) -> Iterator[str]:
    yield (
        f'<rect x="{x - CELL_X / 2:g}" y="{row * CELL_Y:g}" width="{(len(words) + 1) * CELL_X:g}" '
        f'height="{CELL_Y}" rx="4" fill="{fill}"/>'
    )
    yield _text(x, (row + 0.75) * CELL_Y, words, style)


def _path(line: Line, flat: set[tuple[int, int]]) -> str:
    """Through the middle of cells, from border to border; cells of sums, ``flat``, have theirs at the edge."""
    points = [((x + 0.5) * CELL_X, (y + 0.5) * CELL_Y) for x, y in line.points]
    (x0, y0), (x1, _), (x2, _), (x3, y3) = *line.points[:2], *line.points[-2:]
    if x0 == x1:
        points[0] = (points[0][0], points[0][1] - CELL_Y * (0.5 if (x0, y0 - 1) in flat else 1))
    if x2 == x3:
        points[-1] = (points[-1][0], points[-1][1] + CELL_Y * (0.5 if (x3, y3 + 1) in flat else 1))
    elif line.arrow:
        points[-1] = (points[-1][0] - CELL_X / 2, points[-1][1])
    tip = ' marker-end="url(#tip)"' if line.arrow else ""
    shown = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline points="{shown}" fill="none" stroke="#444444" stroke-width="2"{tip}/>'


def _label(label: Label) -> str:
    return _text(label.x * CELL_X, (label.y + 0.75) * CELL_Y, label.text, ' fill="#555555"')


def _text(x: float, y: float, words: str, style: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" textLength="{len(words) * CELL_X}"{style}>{escape(words)}</text>'
