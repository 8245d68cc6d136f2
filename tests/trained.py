"""Tokenizers that are trained on a line of text."""

import functools

from gpt_jax.data.tokenizers import SEPARATOR
from gpt_jax.data.tokenizers.file import Subwords


@functools.cache
def subwords(text: str, vocab: int) -> Subwords:
    """A byte-level byte-pair encoding with up to ``vocab`` ids, as ``bpe`` makes one."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[SEPARATOR], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    return Subwords(tokenizer.to_str(), SEPARATOR, "a test")
