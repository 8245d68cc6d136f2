"""The runs that are served, each by a name of its own."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from gpt_jax import api
from gpt_jax.api import Model
from gpt_jax.data.rendering import Writer, template_of
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.errors import UserError
from gpt_jax.sample import knobs
from gpt_jax.sample.continuous import ContinuousBatch
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.processors import Vocabulary
from gpt_jax.serve.settings import Bounds
from gpt_jax.serve.spelling import Spelling

PLAIN = "plain"  # the template of runs that know no turns of a dialogue
# A value for each knob that a request may have, so that its processor is compiled before one has it.
READY: dict[str, Any] = {
    **{"temperature": 0.5, "top_k": 1, "top_p": 0.5, "min_p": 0.5},
    **{"repetition_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 0.5},
}


@dataclass(frozen=True, eq=False)
class ServedRun:
    """A run and what requests to it need.

    Attributes:
      name: what a request calls it.
      created: when its checkpoint was written, seconds since 1970.
      fingerprint: changes with its parameters.
      writer: what writes dialogues; None where it has no template.
      vocabulary: what processors are built for.
    """

    name: str
    created: int
    fingerprint: str
    model: Model
    tokenizer: Tokenizer
    writer: Writer | None
    vocabulary: Vocabulary
    spelling: Spelling

    @property
    def context(self) -> int:
        return self.model.config.model.context

    def batch(self, bounds: Bounds, device: jax.Device) -> ContinuousBatch:
        """Rows for its requests, on one device."""
        ready = knobs.sampling(self.vocabulary, **READY).processors
        decoder = Decoder(self.model.config.model, jax.device_put(self.model.params, device)).ready(ready)
        return ContinuousBatch(decoder, bounds.rows, len(self.vocabulary.stop_ids), bounds.top)


def opened(workdirs: Sequence[Path]) -> list[ServedRun]:
    """The runs in some directories, each called by the name of its folder.

    Raises:
      UserError: one is no run, has no tokenizer, or two have one name.
    """
    names = [Path(os.path.abspath(path)).name for path in workdirs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"two runs are called {name!r}", where="--workdir, --also", fix="rename one of the two folders"
            )
    return [_opened(name, path) for name, path in zip(names, workdirs, strict=True)]


def _opened(name: str, path: Path) -> ServedRun:
    model = api.load(path)
    if model.tokenizer is None:
        raise UserError("the run's data has no tokenizer, so there is no text to serve", where=str(path))
    template = model.config.data.template
    writer = None if template == PLAIN else Writer(template_of(model.config), model.tokenizer)
    vocabulary = Vocabulary(model.config.model.vocab, model.tokenizer, tuple(model.tokenizer.stop_ids))
    return ServedRun(
        name=name,
        created=int(path.stat().st_mtime),
        fingerprint=f"fp_{_digest(model)}",
        model=model,
        tokenizer=model.tokenizer,
        writer=writer,
        vocabulary=vocabulary,
        spelling=Spelling(model.tokenizer),
    )


def _digest(model: Model) -> str:
    """Of the model's settings and parameters."""
    found = hashlib.sha256(repr(model.config.model).encode())
    for leaf in jax.tree.leaves(model.params):
        found.update(jax.device_get(leaf).tobytes())
    return found.hexdigest()[:16]
