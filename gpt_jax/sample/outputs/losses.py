"""What a text of any length loses: printed, and token by token in a file."""

import json
import math
from pathlib import Path

import numpy as np

from gpt_jax.data.tokenizers import Tokenizer, writable
from gpt_jax.errors import UserError
from gpt_jax.sample import chunks
from gpt_jax.sample.decode import Decoder
from gpt_jax.storage import write_atomically, writing


def read_text(path: Path) -> str:
    """
    Raises:
      UserError: the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", where="--text") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}", where="--text") from None


def report(
    decoder: Decoder, tokenizer: Tokenizer | None, text: str, way: str, stride: int, to: Path | None = None
) -> None:
    """Prints loss, perplexity and bits per byte of a text; every token but the first counts once.

    Args:
      to: gets a line of JSON for each of these tokens: its id, its text and its loss in nats.

    Raises:
      UserError: there is no tokenizer, or the model cannot read the text so.
      StorageError: the disk refuses.
    """
    if tokenizer is None:
        raise UserError("this run's data has no tokenizer, so a text cannot be read", where="--text")
    chunks.check(decoder.config, way, stride)
    text = writable(text)
    pieces = [tokenizer.encode(piece) for piece in tokenizer.pieces(text)]
    ids = np.concatenate([np.array(tokenizer.opening, np.int32), *pieces]).tolist()
    found = chunks.read(decoder, ids, way, stride)
    nats = -math.fsum(map(float, found.logprobs))
    loss, counted = nats / len(found.logprobs), int(np.sum(tokenizer.byte_lengths[ids[1:]]))
    print(f"{len(found.logprobs):,} tokens, {_how(found, decoder.config.context)}")
    print(f"{'loss':<16} {loss:.6f} nats per token")
    print(f"{'perplexity':<16} {math.exp(min(loss, 700)):.6f} per token")
    if counted and int(np.sum(tokenizer.byte_lengths[ids])) == len(text.encode()):
        print(f"{'bits per byte':<16} {nats / math.log(2) / counted:.6f}")
    if to is not None:
        rows = [
            {"id": i, "text": tokenizer.decode([i]), "loss": -float(logprob)}
            for i, logprob in zip(ids[1:], found.logprobs, strict=True)
        ]
        with writing(to):
            to.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(to, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _how(found: chunks.Reading, context: int) -> str:
    if found.way == chunks.STATE:
        return "carried on from part to part, as if read at once"
    if found.way == chunks.ROLL:
        return f"carried on, attention to the last {context}"
    apart = f"that begin {context - found.before} apart, " if found.before else ""
    return f"in windows of {context} {apart}each token with at least {found.before} before it but at the beginning"
