"""Where boxes and arrows go, in cells of a grid of characters: layers from top to bottom, each below its inputs."""

import dataclasses
from collections.abc import Sequence

from gpt_jax.mesh.diagram import Box, Graph
from gpt_jax.mesh.diagram.picture import Frame, Label, Line, Picture, headlines, spelled

GAP = 3  # cells between neighbours
STIFF = 1000.0  # how much more the residual stream wants to be straight than a box wants to be centred


@dataclasses.dataclass
class _Cell:
    """A box in its layer, or one step of a line that passes the layer (``box`` None)."""

    box: Box | None
    sources: list["_Cell"]
    width: int = 1
    height: int = 1
    entries: list[int] = dataclasses.field(default_factory=lambda: [0])
    leave: int = 0
    inner: Picture | None = None
    title: int = 2
    x: int = 0
    y: int = 0
    readers: list["_Cell"] = dataclasses.field(default_factory=list)

    @property
    def stiff(self) -> bool:
        """Whether it is the residual stream, which wants to be straight, or a sum that stands on it."""
        if self.box is not None:
            return self.box.kind in ("in", "op")
        return self.sources[0].stiff or self.to_sum

    @property
    def to_sum(self) -> bool:
        """Whether it, or the line that passes, goes into a sum."""
        return any(r.to_sum if r.box is None else r.box.kind == "op" for r in self.readers)

    def room(self, right: "_Cell") -> int:
        """Cells from its left side to that of its neighbour: the label of one must not touch the other's line."""
        label = 0 if self.box is None else 3 + len(spelled(self.box))
        return max(self.width + GAP, self.leave + label - right.leave)


def arrange(graph: Graph) -> Picture:
    """The picture of a graph, with what enters and what leaves named."""
    picture = _arrange(graph)
    entering = [box for box in graph.boxes if box.kind == "in"]
    for x, box in zip(picture.entries, entering, strict=True):
        picture.labels.append(Label(x + 2, 0, f"{box.name} {spelled(box)}"))
    picture.lines.append(Line(((picture.leave, picture.height), (picture.leave, picture.height)), True))
    picture.labels.append(Label(picture.leave + 2, picture.height, spelled(graph.boxes[-1])))
    picture.height += 1
    picture.width = max([picture.width, *(label.x + len(label.text) for label in picture.labels)])
    return picture


def _arrange(graph: Graph) -> Picture:
    layers = _layers(graph.boxes)
    for layer in layers:
        for cell in layer:
            _stretch(cell)
        layer.sort(key=lambda cell: (_mean([s.x for s in cell.sources]) if cell.sources else 0, cell.box is not None))
        _place(layer, [_below(cell) for cell in layer])
    for layer in reversed(layers[:-1]):
        _place(layer, [_above(cell) for cell in layer])
    for layer in layers:
        _span(layer)
    left = min(cell.x for layer in layers for cell in layer)
    for layer in layers:
        for cell in layer:
            cell.x -= left
    return _paint(layers)


def _layers(boxes: Sequence[Box]) -> list[list[_Cell]]:
    """Cells by layer; a line that skips layers has a cell in each of them."""
    depth: list[int] = []
    for box in boxes:
        depth.append(0 if box.kind == "in" else 1 + max((depth[s] for s in box.inputs), default=0))
    for i, box in enumerate(boxes):
        if not box.inputs and box.kind != "in":  # made from positions alone: as late as may be
            depth[i] = min(depth[j] for j, other in enumerate(boxes) if i in other.inputs) - 1
    layers: list[list[_Cell]] = [[] for _ in range(max(depth) + 1)]
    cells: dict[tuple[int, int], _Cell] = {}
    for i in sorted(range(len(boxes)), key=lambda i: depth[i]):
        sources = []
        for s in boxes[i].inputs:
            for level in range(depth[s] + 1, depth[i]):
                if (s, level) not in cells:
                    cells[s, level] = _Cell(None, [cells[s, level - 1]])
                    layers[level].append(cells[s, level])
            sources.append(cells[s, depth[i] - 1])
        cells[i, depth[i]] = _cell(boxes[i], sources)
        layers[depth[i]].append(cells[i, depth[i]])
    for cell in (cell for layer in layers for cell in layer):
        for source in cell.sources:
            source.readers.append(cell)
    return layers


def _cell(box: Box, sources: list[_Cell]) -> _Cell:
    if box.kind == "in":
        return _Cell(box, sources, len(spelled(box)), 0)
    if box.kind == "op":
        width = len(box.lines[0]) + 2
        middle = width // 2 if width < 5 else 1
        return _Cell(box, sources, width, 1, [middle], middle, title=1)
    if box.inner is not None:
        return _container(box, sources, _arrange(box.inner))
    width = max(map(len, box.lines)) + 4
    return _Cell(box, sources, width, len(box.lines) + 2, [width // 2], width // 2)


def _container(box: Box, sources: list[_Cell], inner: Picture) -> _Cell:
    """What it is called stands on the border, left or right of where lines enter, whichever takes less room."""
    left, right = (len(words) for words in headlines(box))
    first, last = min(inner.entries), max(inner.entries)
    tail = right + 5 if right else 3
    before, after = max(2, left + 5 - first), 2
    width_before = max(before + inner.width + 2, before + last + 2 + tail)
    width_after = max(after + inner.width + 2, after + last + 3 + left + tail)
    x, width = (before, width_before) if width_before <= width_after else (after, width_after)
    title = 2 if width_before <= width_after else after + last + 3
    entries = [x + entry for entry in inner.entries]
    return _Cell(box, sources, width, inner.height + 3, entries, x + inner.leave, inner, title)


def _stretch(cell: _Cell) -> None:
    """Makes a box of several inputs wide enough for all of them to come from straight above."""
    if _joins(cell):
        at = [s.x + s.leave for s in cell.sources]
        cell.width = max(cell.width, max(at) - min(at) + 5)
        cell.entries, cell.leave = [cell.width // 2], cell.width // 2


def _span(layer: list[_Cell]) -> None:
    """The same once all is in place, for a box that has its layer to itself; what leaves it leaves where it did."""
    for cell in layer:
        if _joins(cell) and len(layer) == 1:
            at = [s.x + s.leave for s in cell.sources]
            leave, text = cell.x + cell.leave, max(map(len, cell.box.lines)) + 4 if cell.box else 0
            cell.width = max(text, max(at) - min(at) + 5)
            cell.x = min(at) - 2 - (cell.width - (max(at) - min(at) + 5)) // 2
            cell.leave = min(max(leave - cell.x, 1), cell.width - 2)


def _joins(cell: _Cell) -> bool:
    return cell.box is not None and cell.inner is None and not cell.stiff and len(cell.sources) > 1


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _below(cell: _Cell) -> float:
    """Where a cell's left side would be straight below its inputs."""
    if not cell.sources:
        return 0
    at = [s.x + s.leave for s in cell.sources]
    return min(at) - cell.entries[0] if cell.stiff else _mean(at) - cell.entries[0]


def _above(cell: _Cell) -> float:
    """Where it would be straight above what reads it; the residual stream and what joins it stay."""
    if cell.stiff or not cell.readers or any(reader.stiff for reader in cell.readers):
        return cell.x
    if any(len(reader.sources) > 1 and reader.inner is None for reader in cell.readers):
        return cell.x
    return _mean([r.x + r.entries[min(r.sources.index(cell), len(r.entries) - 1)] for r in cell.readers]) - cell.leave


def _place(layer: list[_Cell], wanted: list[float]) -> None:
    """Sets each x as near to what is wanted as the order and the gaps allow, by weighed least squares (pooling of
    adjacent violators)."""
    offsets, pools = [0], []
    for cell, right in zip(layer, layer[1:], strict=False):
        offsets.append(offsets[-1] + cell.room(right))
    for want, offset, cell in zip(wanted, offsets, layer, strict=True):
        pools.append([want - offset, STIFF if cell.stiff else 1.0, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, weight_a, count_a), (b, weight_b, count_b) = pools[-2:]
            weight = weight_a + weight_b
            pools[-2:] = [[(a * weight_a + b * weight_b) / weight, weight, count_a + count_b]]
    shifts = [shift for shift, _, count in pools for _ in range(int(count))]
    for cell, offset, shift in zip(layer, offsets, shifts, strict=True):
        cell.x = round(shift) + offset


def _paint(layers: list[list[_Cell]]) -> Picture:
    width = max(cell.x + cell.width for layer in layers for cell in layer)
    picture = Picture(width, 0, [cell.x for cell in layers[0] if cell.box is not None], 0)
    y = 0
    for i, layer in enumerate(layers):
        bottom = y + max(cell.height for cell in layer)
        for cell in layer:
            cell.y, cell.height = y, (bottom - y if cell.box is None else cell.height)
            _frame(picture, cell)
        if i + 1 < len(layers):
            y = _connect(picture, layer, layers[i + 1], bottom)
    last = layers[-1][-1]
    picture.leave, picture.height = last.x + last.leave, bottom
    right = max([width, *(label.x + len(label.text) for label in picture.labels)])
    picture.width = right
    return picture


def _frame(picture: Picture, cell: _Cell) -> None:
    if cell.box is None:
        picture.lines.append(Line(((cell.x, cell.y), (cell.x, cell.y + cell.height - 1)), False))
    elif cell.box.kind != "in":
        picture.frames.append(Frame(cell.box, cell.x, cell.y, cell.width, cell.height, 0, cell.title))
        if cell.inner is not None:
            picture.put(cell.inner, cell.x + cell.entries[0] - cell.inner.entries[0], cell.y + 1)
            foot = cell.y + 1 + cell.inner.height
            picture.lines.append(Line(((cell.x + cell.leave, foot), (cell.x + cell.leave, foot)), False))


def _connect(picture: Picture, layer: list[_Cell], below: list[_Cell], bottom: int) -> int:
    """Draws the lines from one layer to the next; returns where the next one begins."""
    sides, buses = _routes(layer, below)
    rows = _rows(layer, buses)
    y = bottom + 2 + (max(rows.values()) + 1 if rows else 0)
    for source in layer:
        x, top = source.x + source.leave, source.y + source.height
        if source.box is not None and source.box.kind != "in":
            picture.labels.append(Label(x + 2, bottom, spelled(source.box)))
        for reader, target in buses[id(source)]:
            bend = bottom + 1 + rows.get(id(source), 0)
            end = y if reader.box is None else y - 1
            bends = () if x == target else ((x, bend), (target, bend))
            picture.lines.append(Line(((x, top), *bends, (target, end)), reader.box is not None))
        for reader in sides[id(source)]:
            picture.lines.append(Line(((x, top), (x, y), (reader.x + reader.width, y)), True))
    return y


def _routes(layer: list[_Cell], below: list[_Cell]) -> tuple[dict, dict]:
    """For each cell, the sums that it joins from the side, and the others that it goes to with the column it enters."""
    sides: dict[int, list] = {id(cell): [] for cell in layer}
    buses: dict[int, list] = {id(cell): [] for cell in layer}
    for reader in below:
        alone = all(other.box is None or other is reader for other in below)
        for k, source in enumerate(reader.sources):
            x = source.x + source.leave
            target = reader.x + reader.entries[k if len(reader.entries) > k else 0]
            if len(reader.sources) > 1 and reader.inner is None and reader.x < x < reader.x + reader.width - 1:
                target = x
            if reader.box is not None and reader.box.kind == "op" and x >= reader.x + reader.width and alone:
                sides[id(source)].append(reader)
            else:
                buses[id(source)].append((reader, target))
    return sides, buses


def _rows(layer: list[_Cell], buses: dict[int, list]) -> dict[int, int]:
    """The row of each cell's horizontal line, such that no two meet; cells whose lines are straight have none."""
    taken: list[list[tuple[int, int]]] = []
    rows = {}
    for cell in layer:
        ends = [cell.x + cell.leave, *(target for _, target in buses[id(cell)])]
        low, high = min(ends), max(ends)
        if low == high:
            continue
        free = (i for i, row in enumerate(taken) if all(high < a or b < low for a, b in row))
        rows[id(cell)] = next(free, len(taken))
        if rows[id(cell)] == len(taken):
            taken.append([])
        taken[rows[id(cell)]].append((low, high))
    return rows
