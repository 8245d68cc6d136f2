"""How single tokens are written in answers that list them."""

from collections.abc import Sequence

from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.sample.outputs.stream import UNFINISHED


class Spelling:
    """Texts and bytes of tokens. No two tokens of one place are written alike, unless the tokenizer has them twice."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._bytes = tokenizer.token_bytes()

    def bytes_of(self, token: int) -> list[int]:
        """The UTF-8 bytes that a token stands for; of a special token, those of its name."""
        raw = self._bytes[token] if token < len(self._bytes) else b""
        return list(raw or self._tokenizer.decode([token]).encode())

    def text(self, token: int) -> str:
        """A token as text; one that is part of a character as OpenAI writes it, and one beyond the tokenizer by its id."""
        raw = bytes(self.bytes_of(token))
        if not raw:
            return f"token_id:{token}"
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    def ends(self, before: Sequence[int], ids: Sequence[int], prompt: int = 0) -> list[int]:
        """How many characters there are up to the end of each of ``ids``; one counts once it is whole.

        Args:
          before: the tokens before them, of which the first ``prompt`` are left out of account.
        """
        start = len(self._tokenizer.decode(before[:prompt]).rstrip(UNFINISHED)) if prompt else 0
        found, so_far = [], list(before)
        for token in ids:
            so_far.append(token)
            found.append(max(0, len(self._tokenizer.decode(so_far).rstrip(UNFINISHED)) - start))
        return found
