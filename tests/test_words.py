"""Code and messages say things in the field's terms: resume, fix, checkpoint; not in pictures that readers must guess at."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for room in ("gpt_jax", "benchmarks", "experiments") for path in (ROOT / room).rglob("*.py"))

# Phrase -> what to write.
AVOIDED = {
    r"\btold\b": "said, shown, or known",
    r"\bbooks\b": "records",
    r"\bat hand\b": "available, or of this machine",
    r"\bby heart\b": "memorised",
    r"\b(take|takes|taken|taking) up\b": "resume",
    r"\b(how )?to mend\b": "fix",
    r"\bgiven up\b": "stopped early",
    r"\bpretend(ed|s)?\b": "virtual",
    r"\bcaught at\b": "stays at",
    r"\bdraws on\b": "continues",
}


@pytest.mark.parametrize("phrase", AVOIDED)
def test_a_phrase_is_avoided(phrase):
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(phrase, line, re.IGNORECASE)
    ]
    assert not found, f"write {AVOIDED[phrase]}: {', '.join(found)}"
