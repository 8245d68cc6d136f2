"""Byte-level byte-pair encoding trained on the training documents (Sennrich et al. 2016; Radford et al. 2019)."""

from typing import Annotated

from gpt_jax.data.tokenizers import SEPARATOR, Texts, Tokenizer, trained
from gpt_jax.data.tokenizers.file import Subwords
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits
from gpt_jax.registry import register

SAMPLE = 2000  # characters trained on per id of the vocabulary: merges hardly change beyond, and start-up stays short


@register("data.tokenizers", "bpe")
def bpe(texts: Texts, *, vocab_size: Annotated[int, Limits(257, 2**24)]) -> Tokenizer:
    """GPT-2's scheme with ``vocab_size`` ids: 256 bytes, the separator and as many merges as fit.

    Raises:
      UserError: ``vocab_size`` is more than the text has merges for.
    """
    return trained(texts, f"bpe {vocab_size} {SAMPLE}", lambda: _train(texts, vocab_size))


def _train(texts: Texts, vocab_size: int) -> Subwords:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts.training_sample(SAMPLE * vocab_size), trainer)
    if tokenizer.get_vocab_size() < vocab_size:
        raise UserError(
            f"the training text has merges for {tokenizer.get_vocab_size()} tokens only",
            where="config.data.tokenizer",
            allowed=f"bpe(vocab_size={tokenizer.get_vocab_size()}) or less for this text",
        )
    return Subwords(tokenizer.to_str(), SEPARATOR, "the trained tokenizer")
