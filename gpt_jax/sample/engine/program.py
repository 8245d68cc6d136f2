"""What a program of decoding is compiled for."""

from dataclasses import dataclass

from jax.sharding import Mesh

from gpt_jax.config import ModelConfig
from gpt_jax.sample.engine import notes
from gpt_jax.sample.engine.chain import Link
from gpt_jax.sample.engine.context import Span
from gpt_jax.sample.platform import Platform


@dataclass(frozen=True)
class Program:
    """What is compiled anew when it changes, besides sizes.

    Args:
      links: the processors, in order.
      draws: whether some row draws; None: found out at run time.
      notes: names, of ``gpt_jax.sample.engine.notes``.
      top: how many of the most likely tokens are noted.
      guided: whether some row has guidance; see ``gpt_jax.sample.engine.guidance``.
      mesh: what weights and rows are laid out on; None: one device.
      span: what is read of texts beyond the context.
      int8_cache: whether keys and values are kept as int8.
    """

    config: ModelConfig
    platform: Platform
    links: tuple[Link, ...] = ()
    draws: bool | None = None
    notes: tuple[str, ...] = (notes.LOGPROBS,)
    top: int = 0
    guided: bool = False
    mesh: Mesh | None = None
    span: Span = Span()
    int8_cache: bool = False


@dataclass(frozen=True)
class Sizes:
    """Of the arrays that decoding keeps: tokens of a prompt at most, with padding, and tokens that can follow."""

    width: int
    room: int

    @property
    def text(self) -> int:
        return self.width + self.room
