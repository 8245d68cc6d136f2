"""A tokenizer with byte fallback, as Llama 2 and Gemma have them: letters, a sign for the space, and a token a byte."""

import string

from tokenizers import Tokenizer, decoders, models, normalizers, processors

SPECIAL = ("<unk>", "<s>", "</s>")


def tokenizer(prepend: bool = True, opening: str = "", byte_fallback: bool = True) -> Tokenizer:
    """
    Args:
      prepend: whether a space stands before every text, and is taken off again in decoding.
      opening: a token that the post-processor puts before a text.
      byte_fallback: whether characters that are no token become their bytes; else <unk>.
    """
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *string.ascii_letters]
    vocab = {token: i for i, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=byte_fallback))
    before = [normalizers.Prepend("▁")] if prepend else []
    made.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", "▁")])
    after = [decoders.Strip(content=" ", left=1)] if prepend else []
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *after]
    made.decoder = decoders.Sequence(steps)
    made.add_special_tokens(list(SPECIAL))
    if opening:
        made.post_processor = processors.TemplateProcessing(
            single=f"{opening} $A", special_tokens=[(opening, vocab[opening])]
        )
    return made
