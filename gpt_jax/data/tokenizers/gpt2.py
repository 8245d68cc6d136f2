"""GPT-2's tokenizer, from the two files published with the model."""

import json
from pathlib import Path

from gpt_jax.data.tokenizers import SEPARATOR, Texts
from gpt_jax.data.tokenizers.file import Subwords, read_text
from gpt_jax.data.vocab_files import merges_of
from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.storage import local_path


@register("data.tokenizers", "gpt2", reads=("/encoder.json",))
def gpt2(texts: Texts, *, path: str) -> Subwords:
    """The 50,257 tokens of Radford et al. 2019, from ``vocab.bpe`` and ``encoder.json`` in the folder ``path``.

    Raises:
      UserError: a file is missing or is not what its name says.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    folder = local_path(path, "config.data.tokenizer")
    vocab_text, merges_text = (_read(folder / name) for name in ("encoder.json", "vocab.bpe"))
    try:
        vocab = json.loads(vocab_text)
        tokenizer = Tokenizer(models.BPE(vocab, merges_of(merges_text)))
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"{path} does not hold GPT-2's tokenizer: {error}", where="config.data.tokenizer") from None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(SEPARATOR, special=True)])
    return Subwords(tokenizer.to_str(), SEPARATOR, path)


def _read(path: Path) -> str:
    if not path.is_file():
        raise UserError(
            f"GPT-2's tokenizer needs {path.name}, which is not in {path.parent}",
            where="config.data.tokenizer",
            fix=f"put GPT-2's encoder.json and vocab.bpe into {path.parent}, or give gpt2(path=...) their folder",
        )
    return read_text(path)
