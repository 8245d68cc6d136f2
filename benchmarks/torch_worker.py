"""The peer: ``transformers`` GPT2LMHeadModel on PyTorch, eager or compiled, as its documentation says to use it.

On a GPU where there is one. Half precision is autocast in training, over float32 parameters, and the weights' own dtype in
generation.
"""

import contextlib
import statistics
import time
from typing import Any

import torch
import transformers
from torch.nn import functional

from benchmarks.shapes import SHAPES
from benchmarks.worker import seconds, serve

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
AT_ONCE = 20 if DEVICE == "cuda" else 1  # products in a GPU's queue while the time is taken
steps: dict[str, Any] = {}
decoders: dict[str, Any] = {}


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


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
    return transformers.GPT2LMHeadModel(config).to(DEVICE)


def build(shape: str, mode: str, dtype: str) -> float:
    """Makes a training step ready and returns the seconds its first call took."""
    s = SHAPES[shape]
    model = model_of(s.layers, s.width, s.heads, s.context, s.vocab).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = torch.randint(s.vocab, (s.batch, s.context), device=DEVICE)
    targets = torch.randint(s.vocab, (s.batch, s.context), device=DEVICE)
    half = dtype != "float32"

    def loss_of(tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.autocast(DEVICE, getattr(torch, dtype)) if half else contextlib.nullcontext():
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
    wait()
    first = time.perf_counter() - start
    steps[mode] = step
    return first


def run(mode: str, count: int) -> float:
    """Seconds per step."""
    step = steps[mode]
    start = time.perf_counter()
    for _ in range(count):
        step()
    wait()
    return (time.perf_counter() - start) / count


def gemm(shape: str, dtype: str) -> float:
    """Median rate of the shape's matrix products in FLOP/s."""
    rates = []
    for rows, inner, columns in SHAPES[shape].products():
        sizes = (rows, inner), (inner, columns), (rows, columns)
        a, b, out = (torch.randn(size, device=DEVICE).to(getattr(torch, dtype)) for size in sizes)

        def multiply(a=a, b=b, out=out) -> None:
            for _ in range(AT_ONCE):
                torch.matmul(a, b, out=out)
            wait()

        rates.append(2 * rows * inner * columns * AT_ONCE / seconds(multiply))
    return statistics.median(rates)


def build_decode(shape: str, mode: str, batch: int, beams: int, prompt: int, new: int, dtype: str) -> float:
    """Makes greedy generation, or beam search, ready; mode: the cache, "dynamic" or "static", or "compile" (static)."""
    s = SHAPES[shape]
    model = model_of(s.layers, s.width, s.heads, s.context, s.vocab).eval().to(getattr(torch, dtype))
    tokens = torch.randint(s.vocab, (batch, prompt), device=DEVICE)
    cache = {} if mode == "dynamic" else {"cache_implementation": "static"}
    if mode == "compile":
        model.forward = torch.compile(model.forward)

    def generate() -> torch.Tensor:
        mask = torch.ones_like(tokens)
        how = {"min_new_tokens": new, "max_new_tokens": new, "num_beams": beams, "do_sample": False}
        return model.generate(tokens, attention_mask=mask, pad_token_id=0, **how, **cache)

    start = time.perf_counter()
    if generate().shape != (batch, prompt + new):
        raise RuntimeError("the generation ended early")
    decoders[f"{mode}-{batch}"] = generate
    return time.perf_counter() - start


def run_decode(mode: str, batch: int) -> float:
    """Seconds of one generation."""
    start = time.perf_counter()
    decoders[f"{mode}-{batch}"]()
    wait()
    return time.perf_counter() - start


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    torch.set_float32_matmul_precision("high")  # TF32, as JAX multiplies float32 on a GPU; nothing on a CPU
    serve(dict(build=build, run=run, gemm=gemm, build_decode=build_decode, run_decode=run_decode))
