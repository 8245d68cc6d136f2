"""No tokenizer: what a model has that came without one."""

from gpt_jax.data.tokenizers import Texts, Tokenizer
from gpt_jax.errors import UserError
from gpt_jax.registry import register


@register("data.tokenizers", "none")
def none(texts: Texts) -> Tokenizer:
    """Refuses texts, because a tokenizer that the model was not trained with would say nothing about it.

    Raises:
      UserError: always.
    """
    raise UserError(
        "this model came without a tokenizer that can be used here, so texts cannot be read",
        where="config.data.tokenizer",
        allowed="file(path='tokenizer.json'), or a source of ids such as tokens(path='ids.npy', vocab=50257)",
        fix="transformers' AutoTokenizer.from_pretrained(…).save_pretrained(…) writes a tokenizer.json",
    )
