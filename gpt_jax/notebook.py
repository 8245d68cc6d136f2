"""What notebooks show: tables and pictures as HTML, and where one is running."""

import base64
import html
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CELL = "text-align:left; vertical-align:top; white-space:pre-wrap; font-variant-numeric:tabular-nums"


def running() -> bool:
    """Whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config


def table(rows: Sequence[Sequence[str]]) -> str:
    """A head and rows; white space is kept."""
    head, *body = rows
    lines = [_row(head, "th"), *(_row(row, "td") for row in body)]
    return f"<table>{''.join(lines)}</table>"


def picture(figure: Any) -> str:
    """A matplotlib figure, as an image within the page."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return _image(file.getvalue())


def image(path: Path) -> str:
    """A PNG file, as an image within the page."""
    return _image(path.read_bytes())


def text(written: str) -> str:
    """Text as it was written, line by line."""
    return f"<pre>{html.escape(written)}</pre>"


def _image(png: bytes) -> str:
    return f'<img style="max-width:100%" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _row(cells: Sequence[str], kind: str) -> str:
    return "<tr>" + "".join(f'<{kind} style="{CELL}">{html.escape(cell)}</{kind}>' for cell in cells) + "</tr>"
