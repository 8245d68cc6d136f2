"""Which variants the generated documents have to have: what is committed, or on their page already.

A file that is being written is in them once it is committed, so that research code does not wait for documentation.
"""

import functools
import re
import shutil
import subprocess
from pathlib import Path

from gpt_jax import registry

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("variants.md", "sampling.md")
FOLDERS = ("gpt_jax/model", "gpt_jax/sample/processors")


def names(kind: str) -> list[str]:
    """Those of a kind, for example "model.norm"."""
    return [name for name in registry.names(kind) if name in _quoted()]


@functools.cache
def _quoted() -> frozenset[str]:
    """Words that stand in quotes in the committed files of the kinds or on the pages."""
    text = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in PAGES)
    if shutil.which("git"):
        command = ["git", "grep", "-ohE", r'"\w+"', "HEAD", "--", *FOLDERS]
        text += subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    return frozenset(re.findall(r'["`](\w+)', text))
