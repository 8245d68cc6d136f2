"""The sizes that are measured, and the matrix products that occur in them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A GPT-2 of one size and the batch it is trained on; biases everywhere, tied embeddings, no dropout."""

    layers: int
    width: int
    heads: int
    context: int
    batch: int
    vocab: int

    @property
    def tokens(self) -> int:
        return self.batch * self.context

    def products(self) -> list[tuple[int, int, int]]:
        """(rows, inner, columns) of a training step's large matrix products: forward, input and weight gradients."""
        forward = [(self.width, self.width), (self.width, 4 * self.width), (4 * self.width, self.width)]
        forward.append((self.width, self.vocab))
        sizes = []
        for inner, columns in forward:
            sizes += [(self.tokens, inner, columns), (self.tokens, columns, inner), (inner, self.tokens, columns)]
        return list(dict.fromkeys(sizes))


SHAPES = {
    "toy": Shape(layers=1, width=16, heads=2, context=8, batch=2, vocab=17),  # to try a benchmark with
    "small": Shape(layers=4, width=128, heads=4, context=64, batch=12, vocab=65),
    "base": Shape(layers=6, width=384, heads=6, context=256, batch=12, vocab=65),
    "gpt2-124M": Shape(layers=12, width=768, heads=12, context=256, batch=2, vocab=50257),
    "gpt2-124M-1024": Shape(layers=12, width=768, heads=12, context=1024, batch=16, vocab=50304),
    "gpt2-355M-1024": Shape(layers=24, width=1024, heads=16, context=1024, batch=16, vocab=50304),
}
# What is measured where nothing is named: on a CPU, and on a GPU.
ON_CPU = ("small", "base", "gpt2-124M")
ON_GPU = ("gpt2-124M-1024", "gpt2-355M-1024")
