"""Examples opened: written by the run's template with its tokenizer, in the windows of an objective's form."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.documents import Documents
from gpt_jax.data.example_windows import ExampleWindows
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.forms import Made, Side, version
from gpt_jax.data.prompt_windows import PromptWindows
from gpt_jax.data.rendering import Writer, template_of
from gpt_jax.data.templates import ROLES, Template
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.errors import UserError

SAID = ("prompt", "messages", "options", "text", "texts", "completion", "answer", "chosen", "rejected")


@dataclass(frozen=True)
class OpenedExamples:
    """Both sides of a source of examples; ``note`` says what was left out, or is empty."""

    train: ExampleWindows | PromptWindows
    valid: ExampleWindows | PromptWindows
    vocab: int
    digest: str
    note: str


def opened(source: Examples, tokenizer: Tokenizer, form: str, config: Config) -> OpenedExamples:
    """The windows of a source's examples.

    Raises:
      UserError: a row lacks a field that the form reads, has nothing to learn, or no row fits into the context.
    """
    make = registry.build("data.forms", form, where="config.tune.objective")
    writer = Writer(template_of(config), tokenizer)

    def side(number: int) -> Made:
        rows = (source.train, source.valid)[number]
        return make(Side(rows, source.places[number], writer, config.model.context, config.data.pack))

    train, valid = side(0), side(1)
    inputs = (source.digest, tokenizer.fingerprint, config.data.template, form, config.model.context)
    digest = cache.digest("examples", *inputs, *version(make))
    return OpenedExamples(train.windows, valid.windows, tokenizer.vocab, digest, _note(train, valid, config))


def as_documents(source: Examples) -> Documents:
    """The texts of the examples, a document a row, for tokenizers that are made from texts."""
    rows = source.train
    return Documents(
        names=tuple(map(str, range(len(rows)))),
        read=lambda i: "\n".join(_texts(_said(rows[i]))),
        digest=source.digest,
        heldout=Documents(
            names=tuple(map(str, range(len(source.valid)))),
            read=lambda i: "\n".join(_texts(_said(source.valid[i]))),
            digest=source.digest,
        ),
    )


def _said(row: Row) -> Row:
    """The fields that are written for a model."""
    return {field: row[field] for field in SAID if field in row}


def with_own_text(documents: Documents, template: Template) -> Documents:
    """With a document more: what the template itself writes, which the alphabet of ``chars`` has to have."""
    messages = [{"role": role, "content": ""} for role in ROLES]
    text = ""
    for dialogue in (messages, messages[1:]):
        with contextlib.suppress(UserError):  # some have no place for a system's message
            text += "".join(piece.text or "" for piece in template.pieces(dialogue, False))
    if not text:
        return documents
    names = ("the template", *documents.names)
    digest = cache.digest(documents.digest, text)
    return replace(documents, names=names, read=lambda i: documents.read(i - 1) if i else text, digest=digest)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            if key != "role":
                yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _note(train: Made, valid: Made, config: Config) -> str:
    long, unwanted, cut = train.too_long + valid.too_long, train.unwanted + valid.unwanted, train.cut + valid.cut
    parts = [
        f"{long:,} examples do not fit into {config.model.context} tokens and are left out" if long else "",
        f"{unwanted:,} are labelled as not wanted and are left out" if unwanted else "",
        f"{cut:,} are cut to {config.model.context} tokens" if cut else "",
    ]
    return "; ".join(filter(None, parts))
