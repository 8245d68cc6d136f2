"""How a kind of device decodes: the tokens are the same everywhere, what is fast is not."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from gpt_jax.backend import CPU_FLAGS

Product = Callable[[jax.Array, jax.Array], jax.Array]
Options = tuple[tuple[str, str | bool], ...]
SMALLEST_BUCKET = 16  # tokens; lengths are rounded up to 2^n or 3 * 2^(n-1), so that few shapes are compiled


@dataclass(frozen=True)
class Platform:
    """What the programs of decoding are made of.

    Args:
      product: (x_BTD, w_FD) -> y_BTF = x_BTD w_FD', in the operands' dtype or float32, for few rows.
      turns: tokens a row that a call of the loop writes, whether or not they are wanted; 0: as many as are wanted. A
        loop that ends by its data has an accelerator wait for the host at every turn.
      specialised: a step of sampling that no row asks for is left out of the program, which is compiled once more for each
        set of steps; else the program skips it at run time, which an accelerator does with a wait for the host too.
      chunk: tokens of a prompt that are read at a time, at most.
      bits: of the cut-offs of top-k and top-p, that are found at a time (``cutoffs.largest``).
      multiple: rows that are decoded side by side are filled up to a multiple of it, with empty ones; a single row is not.
      options: of the compiler.
      options_of_several: of the compiler, in addition, where several rows are decoded side by side.
    """

    product: Product
    turns: int
    specialised: bool
    bits: int
    chunk: int = 512
    multiple: int = 1
    options: Options = ()
    options_of_several: Options = ()

    def compiler_options(self, several: bool) -> dict[str, str | bool] | None:
        """For one row or several, as ``jax.jit`` takes them."""
        return dict((*self.options, *(self.options_of_several if several else ()))) or None

    def rows(self, prompts: int) -> int:
        """How many rows are decoded for that many prompts."""
        return 1 if prompts == 1 else -(-prompts // self.multiple) * self.multiple

    def for_pieces(self, pieces: int) -> "Platform":
        """The same, for rows that are split over so many devices."""
        return dataclasses.replace(self, multiple=math.lcm(self.multiple, pieces))

    def limits(self, most: int, every: int) -> Iterable[int]:
        """How many tokens are to be there after each call of the loop, when one is and ``most`` are wanted."""
        if self.turns:
            return range(1 + self.turns, most + self.turns, self.turns)
        return [limit for limit in (*range(every, most, every), most) if limit > 1]

    def room(self, tokens: int) -> int:
        """Turns that there is room for, for ``tokens`` of them to be wanted: a bucket, of whole calls."""
        size = bucket(tokens)
        return -(-size // self.turns) * self.turns if self.turns else size

    def repeat(self, turn: Callable[[dict], dict], state: dict, goes_on: Callable[[dict], jax.Array]) -> dict:
        """``state`` after the turns of one call: as long as it goes on, or a fixed number of them."""
        if self.turns:
            return jax.lax.fori_loop(0, self.turns, lambda _, s: turn(s), state)
        return jax.lax.while_loop(goes_on, turn, state)


def bucket(tokens: int) -> int:
    """The smallest of 16, 24, 32, 48, 64, 96, … that is not below ``tokens``."""
    size = SMALLEST_BUCKET
    while size < tokens:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size


def barred_product(x_BTD: jax.Array, w_FD: jax.Array) -> jax.Array:
    """The product as XLA's CPU backend is fastest: with the matrix as the left operand.

    The barrier keeps the compiler from swapping the operands, and the rows are flattened because it would turn w for the
    sake of an axis of size 1.
    """
    b, t, d = x_BTD.shape
    y_FR = jax.lax.dot_general(w_FD, x_BTD.reshape(b * t, d), (((1,), (1,)), ((), ())))
    return jax.lax.optimization_barrier(y_FR).T.reshape(b, t, -1)


def plain_product(x_BTD: jax.Array, w_FD: jax.Array) -> jax.Array:
    """The product as a compiler wants it that fuses what comes before and after."""
    b, t, d = x_BTD.shape
    x_XD = x_BTD.reshape(b * t, d)
    y_XF = jax.lax.dot_general(x_XD, w_FD, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
    return y_XF.reshape(b, t, -1)


# Of the compiler, as training has them, whatever XLA_FLAGS says: with others thin products take twice as long, and some
# programs are wrong (docs/sampling.md, docs/performance.md).
CPU_OPTIONS = tuple(flag.removeprefix("--").partition("=")[::2] for flag in CPU_FLAGS)
CPU = Platform(barred_product, turns=0, specialised=False, bits=1, options=CPU_OPTIONS)
ACCELERATOR = Platform(plain_product, turns=16, specialised=True, bits=4)
# Products of a few rows as Triton's kernels take minutes to tune, and leave a sum of partial products and a bias to kernels
# of their own; for cuBLAS, XLA fills up each product's rows to a multiple of 8, by a kernel. One row's products are no
# products of matrices to XLA, but sums that it fuses.
CUBLAS = (("xla_gpu_enable_triton_gemm", False), ("xla_gpu_experimental_enable_fusion_autotuner", False))
GPU = dataclasses.replace(ACCELERATOR, multiple=8, options_of_several=CUBLAS)


def of(backend: str) -> Platform:
    """The platform for a backend of JAX."""
    return {"cpu": CPU, "gpu": GPU}.get(backend, ACCELERATOR)
