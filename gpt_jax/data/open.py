"""From a config to data: finds the sources, makes the tokenizer, reads or builds the cache."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.batches import ORDER, Mixture, Split
from gpt_jax.data.corpus import TokenCorpus, open_corpus
from gpt_jax.data.documents import Documents
from gpt_jax.data.examples import Examples
from gpt_jax.data.forms import specials
from gpt_jax.data.opened_examples import OpenedExamples, as_documents, opened, with_own_text
from gpt_jax.data.rendering import template_of, with_tokens
from gpt_jax.data.tasks import TRAIN_STREAM, VALID_STREAM, Task
from gpt_jax.data.tokenizers import Texts, Tokenizer
from gpt_jax.data.tokenizers.extended import extended
from gpt_jax.data.windows import TaskWindows, TokenWindows, Windows
from gpt_jax.errors import UserError
from gpt_jax.storage import local_path

WHERE = "config.data.source"
Part = TokenCorpus | Task | OpenedExamples
SCANNED = 1 << 24  # ids looked at together: bounds memory
REPEATED = 1000  # passes over running text that nobody wants: 4 are as good as new tokens (Muennighoff et al. 2023)
# What tokenizers change that do not keep every byte: the beginning, spaces, line ends, composed and decomposed letters.
PROBE = "a  b\n\n\tx = 1 \u00e9 e\u0301 \ufb01 \U0001f600 \n"


@dataclass(frozen=True)
class Data:
    """What a run reads.

    Attributes:
      vocab: ids are below it.
      tokenizer: of the text; where the source gives ids, of them, or None where ``data.tokenizer`` is not theirs.
      byte_lengths: the tokenizer's, or None where they do not add up to the bytes of all texts.
      fingerprint: of content, tokenizer and order; with the same model.context, seed and k it gives the same batch.
      facts: what is known about the source, by name.
      train, valid: the two sides.
      segmented: whether rows hold several documents or examples, which are kept apart.
      notes: lines for people about what was read.
    """

    vocab: int
    tokenizer: Tokenizer | None
    byte_lengths: np.ndarray | None
    fingerprint: str
    facts: dict[str, float]
    train: Split
    valid: Split
    segmented: bool
    notes: tuple[str, ...]


def open_data(config: Config, form: str = "text") -> Data:
    """The data of ``config.data`` in windows of ``config.model.context`` tokens.

    Args:
      form: of the batches that the objective reads, in gpt_jax/data/forms.

    Raises:
      UserError: an unknown source or tokenizer, input that is missing or damaged, or a split shorter than a window.
      StorageError: the cache could not be written.
    """
    weights, calls = _weighted(config.data.source)
    template = template_of(config)
    sources = [registry.build("data.sources", call, config, where=WHERE) for call in calls]
    for call, source in zip(calls, sources, strict=True):
        if isinstance(source, Documents) and not source.names:
            raise UserError(f"{call} has no documents", where=WHERE)
    documents = tuple(
        with_own_text(as_documents(source), template) if isinstance(source, Examples) else source
        for source in sources
        if isinstance(source, Documents | Examples)
    )
    tokenizer, root, without = None, Path(), ""  # text needs both
    if documents:
        root = local_path(config.data.cache, "config.data.cache")
        texts = Texts(documents, config.data.valid_fraction, root)
        tokenizer = registry.build("data.tokenizers", config.data.tokenizer, texts, where="config.data.tokenizer")
        tokenizer = extended(with_tokens(tokenizer, template), specials(registry.build("data.forms", form)), "")
    elif all(isinstance(source, TokenCorpus) for source in sources):
        tokenizer, without = _tokenizer_of_ids(config, max(source.vocab for source in sources))
    _check_form(form, calls, sources)
    parts = [_tokenised(source, tokenizer, form, config, root) for source in sources]
    apart = config.data.pack == "segments" or any(isinstance(part, OpenedExamples) for part in parts)
    train, valid = (
        _split(parts, stream, weights, config.model.context, apart) for stream in (TRAIN_STREAM, VALID_STREAM)
    )
    even = not any(isinstance(part, OpenedExamples) or isinstance(part, TokenCorpus) and part.uneven for part in parts)
    even = even and (bool(documents) or tokenizer is not None and _keeps_bytes(tokenizer))
    inputs = [value for pair in zip(weights, (part.digest for part in parts), strict=True) for value in pair]
    return Data(
        vocab=max(part.vocab for part in parts),
        tokenizer=tokenizer,
        byte_lengths=tokenizer.byte_lengths if tokenizer is not None and even else None,
        fingerprint=cache.digest(ORDER, config.data.pack, *inputs),
        facts={name: value for part in parts if isinstance(part, Task) for name, value in part.facts.items()},
        train=train,
        valid=valid,
        segmented=apart and form == "text",
        notes=tuple(filter(None, [without, _repeated(config, parts, train), *map(_note, parts)])),
    )


def _note(part: Part) -> str:
    return part.note if isinstance(part, OpenedExamples) else ""


def _repeated(config: Config, parts: list[Part], train: Split) -> str:
    """A line where running text is read so often that another source was forgotten: presets of large models bring none."""
    times = config.train.steps * config.train.batch * config.model.context // train.tokens
    if times < REPEATED or not all(isinstance(part, TokenCorpus) for part in parts):
        return ""
    return f"{config.train.steps:,} steps read this text about {times:,} times; config.data.source names another"


def _tokenizer_of_ids(config: Config, vocab: int) -> tuple[Tokenizer | None, str]:
    """The tokenizer of a source of ids: ``data.tokenizer``, where it needs no texts and has as many ids. Without one,
    ids are trained on all the same, and the line that is returned says why there is none."""
    call, texts = config.data.tokenizer, Texts((), config.data.valid_fraction, Path())
    try:
        tokenizer = registry.build("data.tokenizers", call, texts, where="config.data.tokenizer")
        why = "" if tokenizer.vocab == vocab else f"{call} has {tokenizer.vocab} of them, the source says vocab={vocab}"
    except UserError as refusal:
        tokenizer, why = None, refusal.what
    return (None, f"no tokenizer, so prompts are ids: {why}") if why else (tokenizer, "")


def _keeps_bytes(tokenizer: Tokenizer) -> bool:
    """Whether a text's tokens have the text's bytes, as far as one text shows it where none is read."""
    return int(tokenizer.byte_lengths[tokenizer.encode(PROBE)].sum()) == len(PROBE.encode())


def _check_form(form: str, calls: list[str], sources: list[Any]) -> None:
    """Raises ``UserError`` where the objective reads examples and a source has running text."""
    for call, source in zip(calls, sources, strict=True):
        if form != "text" and not isinstance(source, Examples):
            raise UserError(
                f"{call} is running text, and the objective compares examples",
                where=WHERE,
                allowed="a source of examples, such as jsonl(path='pairs.jsonl')",
            )


def _tokenised(source: Any, tokenizer: Tokenizer | None, form: str, config: Config, root: Path) -> Part:
    if isinstance(source, Examples) and tokenizer is not None:
        return opened(source, tokenizer, form, config)
    if isinstance(source, Documents) and tokenizer is not None:
        corpus = open_corpus(source, tokenizer, config.data.valid_fraction, root)
        return _within(corpus, tokenizer, config.model.vocab)
    return source


def _within(corpus: TokenCorpus, tokenizer: Tokenizer, vocab: int) -> TokenCorpus:
    """The corpus of a tokenizer that may have more ids than the model, which then do not occur in it.

    Raises:
      UserError: one occurs; the message has the token.
    """
    if not vocab or corpus.vocab <= vocab:
        return corpus
    for part in (corpus.train, corpus.valid):
        for begin in range(0, len(part.ids), SCANNED):
            ids = part.ids[begin : begin + SCANNED]
            if ids.max() >= vocab:
                first = int(ids[np.argmax(ids >= vocab)])
                raise UserError(
                    f"the text has the token {tokenizer.decode([first])!r}, id {first}, and model.vocab is {vocab}",
                    where="config.model.vocab",
                    allowed=f"{corpus.vocab} or more, or 0 for exactly that; or a text without such tokens",
                )
    return replace(corpus, vocab=vocab)


def _split(parts: list[Part], stream: int, weights: list[float], context: int, segments: bool) -> Split:
    def windows(part: Part) -> Windows:
        if isinstance(part, OpenedExamples):
            return (part.train, part.valid)[stream]
        if isinstance(part, Task):
            return TaskWindows(part, stream, segments)
        name, array = (("train", part.train), ("valid", part.valid))[stream]
        return TokenWindows(name, array, context, segments)

    return Split(tuple(windows(part) for part in parts), Mixture(weights))


def _weighted(source: str | tuple) -> tuple[list[float], list[str]]:
    """(weights, calls) of "source(...)" or of ((weight, "source(...)"), ...)."""
    if isinstance(source, str):
        return [1.0], [source]
    total = 0.0
    for pair in source:
        ok = (
            isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], int | float) and isinstance(pair[1], str)
        )
        if not ok or not 0 < pair[0] < float("inf"):
            raise UserError(
                f"{pair!r} is not a weighted source", where=WHERE, allowed='(weight above 0, "source(...)")'
            )
        total += pair[0]
    if not source or min(weight for weight, _ in source) < total / 1000:
        raise UserError("a mixture needs sources, each with at least a thousandth of the weight", where=WHERE)
    return [float(weight) for weight, _ in source], [call for _, call in source]
