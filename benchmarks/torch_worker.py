"""The peer: ``transformers`` GPT2LMHeadModel on PyTorch, eager or compiled, as its documentation says to use it."""

import statistics
import time
from typing import Any

import torch
import transformers
from torch.nn import functional

from benchmarks.shapes import SHAPES
from benchmarks.worker import seconds, serve

steps: dict[str, Any] = {}
decoders: dict[str, Any] = {}


def model_of(layers: int, width: int, heads: int, context: int, vocab: int) -> transformers.GPT2LMHeadModel:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=layers,
        n_embd=width,
        n_head=heads,
        n_positions=context,
        vocab_size=vocab,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.GPT2LMHeadModel(config)


def build(shape: str, mode: str) -> float:
    """Makes a training step ready and returns the seconds its first call took."""
    s = SHAPES[shape]
    model = model_of(s.layers, s.width, s.heads, s.context, s.vocab).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = torch.randint(s.vocab, (s.batch, s.context))
    targets = torch.randint(s.vocab, (s.batch, s.context))

    def loss_of(tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = model(tokens, use_cache=False).logits
        return functional.cross_entropy(logits.view(-1, s.vocab), targets.view(-1))

    loss_fn = torch.compile(loss_of) if mode == "compile" else loss_of

    def step() -> None:
        loss = loss_fn(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    steps[mode] = step
    return first


def run(mode: str, count: int) -> float:
    """Seconds per step."""
    step = steps[mode]
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / count


def gemm(shape: str) -> float:
    """Median rate of the shape's matrix products in FLOP/s."""
    rates = []
    for rows, inner, columns in SHAPES[shape].products():
        a, b, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
        rates.append(2 * rows * inner * columns / seconds(lambda a=a, b=b, out=out: torch.matmul(a, b, out=out)))
    return statistics.median(rates)


def build_decode(shape: str, mode: str, batch: int, prompt: int, new: int) -> float:
    """Makes greedy generation ready; mode is the kind of its cache, "dynamic" or "static", or "compile" (static)."""
    s = SHAPES[shape]
    model = model_of(s.layers, s.width, s.heads, s.context, s.vocab).eval()
    tokens = torch.randint(s.vocab, (batch, prompt))
    cache = {} if mode == "dynamic" else {"cache_implementation": "static"}
    if mode == "compile":
        model.forward = torch.compile(model.forward)

    def generate() -> torch.Tensor:
        mask = torch.ones_like(tokens)
        length = {"min_new_tokens": new, "max_new_tokens": new}
        return model.generate(tokens, attention_mask=mask, do_sample=False, pad_token_id=0, **length, **cache)

    start = time.perf_counter()
    if generate().shape != (batch, prompt + new):
        raise RuntimeError("the generation ended early")
    decoders[f"{mode}-{batch}"] = generate
    return time.perf_counter() - start


def run_decode(mode: str, batch: int) -> float:
    """Seconds of one generation."""
    start = time.perf_counter()
    decoders[f"{mode}-{batch}"]()
    return time.perf_counter() - start


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    serve(dict(build=build, run=run, gemm=gemm, build_decode=build_decode, run_decode=run_decode))
