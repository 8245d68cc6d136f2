"""Texts as the harness has them: ids made of them, special tokens included, and messages spelt as texts.

The harness joins texts before it has them encoded, so a special token reaches the model as it is spelt. As with its own
models, a text that spells one therefore becomes it, which nothing else in this package does.
"""

import re
from collections.abc import Mapping, Sequence

from gpt_jax.data.rendering import Writer
from gpt_jax.data.templates import Template
from gpt_jax.data.tokenizers import Tokenizer, writable
from gpt_jax.errors import UserError

NO_TEMPLATE = "plain"


class Spelling:
    """How a tokenizer and a template read texts.

    Args:
      name: of the template.

    Attributes:
      prefix: the id that a text without a context follows.
      end: the id of the token that ends a text.

    Raises:
      UserError: the tokenizer has no token that a text can follow.
    """

    def __init__(self, tokenizer: Tokenizer, template: Template, name: str):
        self.tokenizer, self.template, self.name = tokenizer, template, name
        begin = tokenizer.special(template.begin) if template.begin else None
        known = [*tokenizer.opening, begin, tokenizer.separator, *tokenizer.stop_ids]
        named = [tokenizer.special(special) for special in template.specials]
        self._ids = {tokenizer.decode([i]): i for i in [*known, *named] if i is not None}
        self._specials = re.compile("|".join(map(re.escape, sorted(self._ids, key=len, reverse=True))) or "(?!)")
        first = next((i for i in known if i is not None), None)
        if first is None:
            raise UserError(
                "the tokenizer has no token that a text without a context could follow",
                where="config.data.tokenizer",
                fix="name one of its tokens, as in file(path='tokenizer.json', separator='</s>')",
            )
        self.prefix: int = first
        self.end: int = first if tokenizer.separator is None else tokenizer.separator

    def encode(self, text: str, opened: bool | None = None) -> list[int]:
        """The ids of a text.

        Args:
          opened: whether the tokenizer's ``opening`` stands before it; None: unless the text spells it.
        """
        if opened is None:
            opened = not text.startswith(self.tokenizer.decode([self.prefix]))
        ids = [*self.tokenizer.opening] if opened else []
        at = 0
        for found in self._specials.finditer(text):
            ids += [*self._plain(text[at : found.start()]), self._ids[found[0]]]
            at = found.end()
        return [*ids, *self._plain(text[at:])]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of what was written, without special tokens."""
        special = self._ids.values()
        return self.tokenizer.decode([i for i in ids if i not in special])

    def spelt(self, messages: Sequence[Mapping[str, str]], answer: bool) -> str:
        """Messages as the template writes them.

        Args:
          answer: whether an answer is to follow; if not, the last message is the beginning of one.

        Raises:
          UserError: there is no template, or it cannot write them.
        """
        if self.name == NO_TEMPLATE:
            raise UserError(
                "this run has no template, and a task is to be asked as a chat",
                where="config.data.template, --tasks",
                fix="leave :chat out, or tune the run with a template such as chatml",
            )
        writer = Writer(self.template, self.tokenizer)
        if answer:
            return writer.spelt(messages, True, "a task of lm-eval")
        return writer.spelt(messages[:-1], True, "a task of lm-eval") + messages[-1]["content"]

    def _plain(self, text: str) -> list[int]:
        return self.tokenizer.encode(writable(text)).tolist() if text else []
