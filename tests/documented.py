"""Which variants the generated documents have to have: what is committed, or on the page of variants already.

A file that is being written is in them once it is committed, so that research code does not wait for documentation.
"""

import functools
import re
import shutil
import subprocess
from pathlib import Path

from gpt_jax import registry

ROOT = Path(__file__).resolve().parents[1]


def names(kind: str) -> list[str]:
    """Those of a kind, for example "model.norm"."""
    return [name for name in registry.names(kind) if name in _quoted()]


@functools.cache
def _quoted() -> frozenset[str]:
    """Words that stand in quotes in the committed files of the model or on the page."""
    text = (ROOT / "docs" / "variants.md").read_text(encoding="utf-8")
    if shutil.which("git"):
        command = ["git", "grep", "-ohE", r'"\w+"', "HEAD", "--", "gpt_jax/model"]
        text += subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    return frozenset(re.findall(r'"(\w+)', text))
