"""How pictures look, and how they are kept: drawn once, as SVG for pages and as PNG for slides."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax.storage import write_atomically, writing

# Okabe and Ito's palette, distinct in every common form of colour blindness.
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#5B6770"
NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # characters that XML cannot hold
COLOURS = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", GREY)


def save(figure: Any, path: Path) -> str:
    """Writes path.png and path.svg, and returns the SVG to be set into a page.

    Raises:
      StorageError: the disk refuses.
    """
    with writing(path.with_suffix(".png")):
        figure.savefig(path.with_suffix(".png"), dpi=140)
    # Everything has its place by now; to look for it again would take as long as drawing.
    figure.set_layout_engine(None)
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = NO_XML.sub("\N{REPLACEMENT CHARACTER}", text.getvalue())
    write_atomically(path.with_suffix(".svg"), drawn)
    return inline(path.with_suffix(".svg"))


def inline(path: Path) -> str:
    """An SVG file as it is set into a page, as wide as there is room."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'width="100%"', text[text.index("<svg") :], count=1)


def panels(width: float, height: float, rows: int = 1, columns: int = 1, sharey: bool = True) -> tuple[Any, Any]:
    """A figure and its axes, in the style of all pictures of studies."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharey=sharey)
    for axis in np.ravel(axes):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, color="#E3E6E8", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes
