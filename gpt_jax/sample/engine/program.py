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
      asked: whether notes besides the log-probability are taken only in turns in which a row asks for them ("asked_B").
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
    asked: bool = False


@dataclass(frozen=True)
class Sizes:
    """Of the arrays that decoding keeps.

    Args:
      width: tokens of a prompt at most, with padding.
      room: tokens that can follow.
      slots: of the cache; 0: for all of a text but its last token, which is not read.
      most: tokens that are read at a time, where other prompts have more than ``width``.
    """

    width: int
    room: int
    slots: int = 0
    most: int = 0

    @property
    def text(self) -> int:
        return self.width + self.room
