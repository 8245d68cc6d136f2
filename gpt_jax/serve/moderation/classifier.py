"""A run that classifies texts, as a rule of the content filter."""

import re
import threading
from pathlib import Path

from gpt_jax import api
from gpt_jax.errors import UserError
from gpt_jax.serve.moderation.filters import Look
from gpt_jax.train.scoring import Head

SENTENCE = re.compile(r"[.!?\n](?=\s|$)")
LONGEST = 200  # characters that are held back for want of the end of a sentence
READ = 2000  # characters at the end of a text that are read


class Classifier:
    """A rule (``filters.Rule``): what has been written so far, sentence by sentence, is not of a class.

    A sentence is held back until it has been judged with what stands before it.
    """

    def __init__(self, head: Head, forbidden: str, threshold: float):
        self.name = f"class {forbidden}"
        self._head, self._forbidden, self._threshold = head, forbidden, threshold
        self._lock = threading.Lock()  # prompts are judged beside answers

    def look(self, text: str, start: int, final: bool) -> Look:
        ends = [found.end() for found in SENTENCE.finditer(text, start)]
        end = len(text) if final or len(text) - start > LONGEST else max(ends, default=start)
        if not text[start:end].strip():
            return Look(None, end)
        with self._lock:
            (shares,) = self._head.classify(text[max(0, end - READ) : end])
        return Look(start if shares[self._forbidden] >= self._threshold else None, end)


def read(path: Path, forbidden: str, threshold: float) -> Classifier:
    """
    Raises:
      UserError: there is no such run, or it has no such class.
    """
    head = api.load(path).head
    classes = list(head.classify("a")[0])
    if forbidden not in classes:
        what = f"there is no class {forbidden!r}" if forbidden else "it is not said which class is forbidden"
        raise UserError(what, where="--classifier_class", allowed=", ".join(classes))
    return Classifier(head, forbidden, threshold)
