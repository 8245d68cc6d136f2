"""Progress bars where somebody watches: at a terminal, or in a notebook. Logs get none."""

import importlib.util
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from gpt_jax import notebook


def watched(stream: TextIO | None) -> bool:
    """Whether lines of a stream can be drawn anew: it is a terminal, or a notebook's. None is a closed stream."""
    return terminal(stream) or (stream is sys.stderr and notebook.running())


def terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def stacked() -> bool:
    """Whether several bars can stand under each other: at a terminal, and in a notebook that has widgets."""
    return terminal(sys.stderr) or _has_widgets()


def kind() -> Any:
    """tqdm's class for where we are."""
    if _has_widgets():
        from tqdm.notebook import tqdm as widget

        return widget
    from tqdm import tqdm

    return tqdm


def bar(items: Iterable | None = None, **settings: Any) -> Any:
    """A bar on standard error; ``settings`` are tqdm's."""
    return kind()(items, disable=not watched(sys.stderr), **settings)


def _has_widgets() -> bool:
    return notebook.running() and importlib.util.find_spec("ipywidgets") is not None
