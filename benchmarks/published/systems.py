"""Published training runs: what was trained on what, and how fast.

What a publication does not say is taken to be as most users have it, and noted: no recomputation, batches that the paper's
tables name. Runs whose widths and layers are not published are left out.
"""

from dataclasses import dataclass, replace
from typing import Any

from gpt_jax.mesh.planning.roofline import Layout, Shape


@dataclass(frozen=True)
class System:
    """A run.

    Args:
      seconds: of a step, as published or from what is.
      source: where it stands.
      note: what had to be assumed, or why it cannot be predicted.
      counts: whether constants are fitted to it or tested on it.
    """

    name: str
    chip: str
    shape: Shape
    layout: Layout
    seconds: float
    source: str
    note: str = ""
    counts: bool = True


def shape(
    layers: int,
    width: int,
    heads: int,
    vocab: int,
    context: int,
    mlp_width: int = 0,
    kv_heads: int = 0,
    head_dim: int = 0,
    projections: int = 2,
    tied: bool = True,
) -> Shape:
    """Of a dense transformer; 0 = as in GPT-2."""
    head_dim, kv_heads, mlp_width = head_dim or width // heads, kv_heads or heads, mlp_width or 4 * width
    queries, keys = heads * head_dim, kv_heads * head_dim
    layer = width * (2 * queries + 2 * keys) + projections * width * mlp_width
    tables = vocab * width * (1 if tied else 2)
    return Shape(layers, layer, layer, width, mlp_width, projections, (queries, keys), vocab, context, tables)


def by_tokens(name: str, chip: str, model: Shape, layout: Layout, rate: float, source: str, **more: Any) -> System:
    """``rate``: tokens a second of a device."""
    seconds = layout.batch * model.context / layout.devices / rate
    return System(name, chip, model, layout, seconds, source, **more)


def by_flops(name: str, chip: str, model: Shape, layout: Layout, flops: float, source: str, **more: Any) -> System:
    """``flops``: a second of a device, 6 of a weight and scores counted whole."""
    return by_tokens(name, chip, model, layout, flops / model.model_flops, source, **more)


def _foundry() -> list[System]:
    sizes = {
        "1.3B": (24, 2048, 16),
        "3B": (32, 2560, 20),
        "7B": (32, 4096, 32),
        "30B": (48, 7168, 56),
        "70B": (80, 8192, 64),
    }
    rows = [  # model, context, devices, rows of a micro-batch, micro-batches, remat, tokens/s of a device
        ("1.3B", 2048, 8, 14, 1, "none", 45_455),
        ("1.3B", 2048, 64, 20, 1, "none", 44_402),
        ("3B", 2048, 16, 10, 3, "none", 24_142),
        ("7B", 2048, 8, 6, 1, "none", 10_643),
        ("7B", 8192, 8, 8, 2, "full", 6_935),
        ("30B", 2048, 32, 14, 3, "full", 2_308),
        ("70B", 2048, 64, 8, 4, "full", 1_039),
    ]
    found = []
    for name, context, devices, rows_of_each, accumulate, remat, rate in rows:
        layers, width, heads = sizes[name]
        layout = Layout({"fsdp": devices}, rows_of_each * accumulate * devices, accumulate, remat)
        model = shape(layers, width, heads, 50_368, context)
        title = f"MPT {name}, T {context}"
        found.append(by_tokens(title, "h100", model, layout, rate, "llm-foundry, benchmarking README"))
    return found


def _torchtitan() -> list[System]:
    llama = {"vocab": 128_256, "context": 8192, "kv_heads": 8, "projections": 3, "tied": False}
    small, large = shape(32, 4096, 32, mlp_width=14_336, **llama), shape(80, 8192, 64, mlp_width=28_672, **llama)
    largest = shape(126, 16_384, 128, mlp_width=53_248, **llama)
    source, cool = "torchtitan, benchmarks", "GPUs limited to 500 W"
    pipe = Layout({"data": 8, "tensor": 8, "pipeline": 8}, 256, 1, "full", 1, 32, once=True)
    fp8 = {"note": "products in fp8: not modelled", "counts": False}
    return [
        by_tokens("Llama 3.1 8B", "h100", small, Layout({"fsdp": 8}, 16), 6_667, source, note=cool),
        by_tokens("Llama 3.1 8B", "h100", small, Layout({"fsdp": 128}, 256), 6_514, source, note=cool),
        by_tokens(
            "Llama 3.1 8B",
            "h100",
            small,
            Layout({"fsdp": 8, "tensor": 8}, 128),
            4_378,
            source,
            note=f"{cool}; 16 rows taken",
        ),
        by_tokens(
            "Llama 3.1 70B", "h100", large, Layout({"fsdp": 32, "tensor": 8}, 512, 1, "full"), 597, source, note=cool
        ),
        by_tokens("Llama 3.1 405B", "h100", largest, pipe, 100, source, **fp8),
        by_tokens("Llama 3.1 405B, interleaved", "h100", largest, replace(pipe, rounds=2), 128, source, **fp8),
    ]


def _megatron() -> list[System]:
    readme = "Megatron-LM, README of 2024"
    small, large = shape(24, 2048, 16, 131_072, 4096), shape(96, 12_288, 96, 131_072, 4096)
    pipe = Layout({"data": 48, "tensor": 8, "pipeline": 6}, 1152, microbatches=24, once=True)
    return [
        by_flops("GPT 1.7B", "h100", small, Layout({"data": 48}, 192), 408.8e12, readme),
        by_flops("GPT 177B", "h100", large, pipe, 432.8e12, readme, note="one round taken"),
    ]


def _mt_nlg() -> list[System]:
    model, found = shape(105, 20_480, 128, 51_200, 2048), []
    for devices, seconds in ((2240, 60.1), (2800, 50.2), (3360, 44.4)):
        axes = {"data": devices // 280, "tensor": 8, "pipeline": 35}
        layout = Layout(axes, 1920, 1, "full", 1, 1920 * 280 // devices, once=True)
        found.append(System(f"MT-NLG 530B, {devices}", "a100", model, layout, seconds, "Smith et al. 2022"))
    return found


def _korthikanti() -> list[System]:
    rows = [  # layers, width, heads, stages, batch, rounds, seconds; tensor is 8
        ("22B", 48, 6144, 64, 1, 4, 1, 1.10),
        ("175B", 96, 12_288, 96, 8, 64, 3, 13.75),
        ("530B", 105, 20_480, 128, 35, 280, 3, 37.83),
        ("1T", 128, 25_600, 160, 64, 512, 1, 71.49),
    ]
    found, source = [], "Korthikanti et al. 2022, table 5"
    for name, layers, width, heads, stages, batch, rounds, seconds in rows:
        model = shape(layers, width, heads, 51_200, 2048)
        layout = Layout({"tensor": 8, "pipeline": stages}, batch, 1, "none", rounds, batch)
        found.append(System(f"GPT {name}", "a100", model, layout, seconds, source, note="recomputes attention alone"))
    return found


def _llama() -> list[System]:
    model = shape(126, 16_384, 128, 128_256, 8192, 53_248, kv_heads=8, projections=3, tied=False)
    found, source = [], "Llama team 2024, table 4"
    for devices, flops in ((8192, 430e12), (16_384, 400e12)):
        axes = {"data": devices // 128, "tensor": 8, "pipeline": 16}
        layout = Layout(axes, 2048, 1, "none", 4, 2048 * 128 // devices, once=True)
        name = f"Llama 3 405B, {devices}"
        found.append(by_flops(name, "h100", model, layout, flops, source, note="four rounds taken"))
    return found


def _maxtext() -> list[System]:
    readme, found = "MaxText, README", []
    llama = shape(32, 4096, 32, 32_000, 4096, 11_008, projections=3, tied=False)
    for devices, flops in ((8, 492e12), (16, 422e12), (32, 407e12), (64, 409e12), (128, 375e12)):
        layout = Layout({"fsdp": 8, "data": devices // 8}, 4 * devices)
        found.append(
            by_flops("Llama 2 7B", "h100", llama, layout, flops, "MaxText, GPU recipes", note="cards of 200 Gb/s")
        )
    scaled = [  # doublings of the base model, chip, axes, rows of a device, MFU
        ("32B", 5, "v5p", {"tensor": 4, "fsdp": 16}, 6, 0.715),
        ("64B", 6, "v5p", {"tensor": 4, "fsdp": 16}, 3, 0.703),
        ("128B", 7, "v5p", {"tensor": 8, "fsdp": 16}, 1, 0.687),
        ("256B", 8, "v5p", {"tensor": 8, "fsdp": 64}, 1, 0.671),
        ("512B", 9, "v5p", {"tensor": 8, "fsdp": 64}, 2, 0.640),
        ("1024B", 10, "v5p", {"tensor": 16, "fsdp": 128}, 2, 0.648),
        ("16B", 4, "v5e", {"fsdp": 256}, 6, 0.611),
        ("32B", 5, "v5e", {"fsdp": 256}, 4, 0.669),
        ("128B", 7, "v5e", {"fsdp": 16, "tensor": 16}, 1, 0.561),
    ]
    for name, doublings, chip, axes, rows, mfu in scaled:
        found.append(
            _by_mfu(f"MaxText {name}", chip, _scaled(doublings), axes, rows, mfu, "none", readme, "no remat taken")
        )
    wide = {"22B": (shape(48, 6144, 24, 32_000, 2048, head_dim=256), 64, 13, 0.567)}
    wide["52B"] = shape(64, 8192, 32, 32_000, 2048, head_dim=256), 192, 7, 0.560
    for name, (model, devices, rows, mfu) in wide.items():
        found.append(
            _by_mfu(f"MaxText {name}", "v4", model, {"fsdp": devices}, rows, mfu, "full", readme, "64 layers taken")
        )
    llama_70b = shape(80, 8192, 64, 32_000, 4096, 28_672, kv_heads=8, projections=3, tied=False)
    llama_8b = shape(32, 4096, 32, 128_256, 8192, 14_336, kv_heads=8, projections=3, tied=False)
    found.append(_by_mfu("Llama 2 70B", "v5p", llama_70b, {"fsdp": 256}, 2, 0.654, "none", readme, "no remat taken"))
    found.append(_by_mfu("Llama 3.1 8B", "v6e", llama_8b, {"fsdp": 256}, 4, 0.455, "none", readme, "no remat taken"))
    return found


def _scaled(doublings: int) -> Shape:
    """MaxText's base model, scaled: heads and mlp first, then the width, then layers."""
    b, rest = divmod(doublings, 3)
    wide, heads = 2 ** (b + (rest > 1)), 2 ** (b + (rest > 0))
    return shape(
        16 * 2**b, 2048 * wide, 16 * heads, 32_000, 2048, 7168 * heads, head_dim=128, projections=3, tied=False
    )


def _by_mfu(
    name: str, chip: str, model: Shape, axes: dict[str, int], rows: int, mfu: float, remat: str, source: str, note: str
) -> System:
    from gpt_jax.mesh.planning.chips import CHIPS

    layout = Layout(axes, 1, 1, remat)
    layout = replace(layout, batch=rows * layout.devices)
    return by_flops(name, chip, model, layout, mfu * (CHIPS[chip].rate or 0), source, note=note)


def _pax() -> list[System]:
    rows = (("5B", 24, 4096, 32, 8, "none", 599.0), ("175B", 96, 12_288, 96, 6, "full", 19.6))
    return [
        System(
            f"GPT {name}",
            "a100",
            shape(layers, width, heads, 51_200, 2048),
            Layout({"fsdp": 256}, rows_of_each * 256, 1, remat),
            rows_of_each * 256 / texts,
            "JAX-Toolbox, Pax",
            note=f"remat {remat} taken",
        )
        for name, layers, width, heads, rows_of_each, remat, texts in rows
    ]


def systems() -> list[System]:
    gpt2 = shape(12, 768, 12, 50_304, 1024)
    llm_c = System("GPT-2 124M", "h100", gpt2, Layout({"data": 8}, 512, gradients=2), 0.140, "llm.c, by modded-nanogpt")
    return [
        llm_c,
        *_foundry(),
        *_torchtitan(),
        *_megatron(),
        *_mt_nlg(),
        *_korthikanti(),
        *_llama(),
        *_maxtext(),
        *_pax(),
    ]
