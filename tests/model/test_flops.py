"""Counts of parameters and FLOPs against published ones, and against the parameters themselves."""

import dataclasses
import itertools
import math

import jax
import numpy as np
import pytest

from gpt_jax.config import Config, ModelConfig
from gpt_jax.configs import gpt2, nanogpt_cpu, shakespeare_char
from gpt_jax.errors import UserError
from gpt_jax.model import flops, gpt
from tests.model import variants


def settings(values, **changes) -> ModelConfig:
    values.model.update(changes)
    return Config.from_dict(values).model


def published(parts: dict, **sizes) -> ModelConfig:
    return settings(gpt2.get_config(), **parts, **sizes)


GPT2_124M = settings(gpt2.get_config(), bias=False)  # as nanoGPT counts it
NEOX = dict(position="rope(fraction=0.25)", mlp="gelu_erf", block="parallel(shared_norm=False)", tied=False)
LLAMA = dict(position="rope", norm="rmsnorm", mlp="swiglu", bias=False, tied=False)
LARGE = dict(layers=32, width=4096, heads=32, vocab=32000)
PUBLISHED = {
    "gpt2 124m": (settings(gpt2.get_config("124m")), 124_439_808),
    "gpt2 355m": (settings(gpt2.get_config("355m")), 354_823_168),
    "gpt2 774m": (settings(gpt2.get_config("774m")), 774_030_080),
    "gpt2 1558m": (settings(gpt2.get_config("1558m")), 1_557_611_200),
    "nanoGPT": (GPT2_124M, 124_337_664),
    "nanoGPT on characters": (settings(shakespeare_char.get_config(), vocab=65), 10_745_088),
    "nanoGPT on CPU": (settings(nanogpt_cpu.get_config(), vocab=65), 804_096),
    "Pythia 160M": (published(NEOX, vocab=50304), 162_322_944),
    "LLaMA 7B": (published(LLAMA, **LARGE, mlp_width=11008), 6_738_415_616),
    "Mistral 7B": (published(LLAMA, **LARGE, kv_heads=8, mlp_width=14336), 7_241_732_096),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_of_parameters(name):
    config, total = PUBLISHED[name]
    assert flops.parameters(config).total == total


def test_pythias_non_embedding_parameters():
    assert flops.parameters(PUBLISHED["Pythia 160M"][0]).non_embedding == 85_056_000


def shapes(config: ModelConfig) -> dict:
    return jax.eval_shape(lambda: gpt.init(config, jax.random.key(0)))


@pytest.mark.parametrize("name", ["gpt2 124m", "nanoGPT on CPU"])
@pytest.mark.parametrize("scan", [False, True])
def test_live_parameters_count_the_same(name, scan):
    config = dataclasses.replace(PUBLISHED[name][0], scan=scan)
    assert flops.count(shapes(config), config) == flops.parameters(config)


def test_experts_count_by_the_share_that_a_token_passes():
    dense = flops.parameters(variants.config(mlp="swiglu"))
    mixed = flops.parameters(variants.config(mlp="moe(experts=8, top_k=3)"))
    one = 3 * 16 * 24 * 2  # three matrices in each of two layers
    router, biases = 2 * 16 * 8, 2 * (2 * 24 + 16)
    assert mixed.total == dense.total + 7 * (one + biases) + router
    assert mixed.idle == 5 * one
    assert mixed.matmul == dense.matmul + 2 * one + router


@pytest.mark.parametrize("changes", [{}, {"tied": False}, {"kv_heads": 1, "bias": False}], ids=str)
def test_multiplied_parameters_are_those_that_xla_multiplies(changes):
    """A forward pass over one token has two FLOPs a multiplied parameter, by the shapes of the products it is made of."""
    config = variants.config(**changes)
    tokens_BT = jax.ShapeDtypeStruct((1, 1), np.int32)
    forward = jax.make_jaxpr(lambda params, tokens: variants.model(config, params)(tokens))
    products = list(_products(forward(shapes(config), tokens_BT).jaxpr))
    attention = 2 * config.layers * config.heads * config.head_dim  # q k' and p v of one token with itself
    assert sum(products) - attention == flops.parameters(config).matmul


def _products(jaxpr):
    """Multiplications of every matrix product in a program, called functions included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            yield math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _products(inner)


def per_sequence(convention: str) -> float:
    return flops.flops_per_token(GPT2_124M, 1024, convention) * 1024


def test_published_flops():
    assert per_sequence("nanogpt") == 874_944_921_600 == 3 * 291_648_307_200
    assert per_sequence("palm") == 875_062_886_400
    biased = settings(gpt2.get_config())
    assert flops.flops_per_token(biased, 1024, "nanogpt") == per_sequence("nanogpt") / 1024


@pytest.mark.parametrize(
    ("size", "paper"),
    [((12, 768, 12), 2.25e20), ((24, 1024, 16), 6.41e20), ((96, 12288, 96), 3.14e23)],
)
def test_gpt3s_training_compute(size, paper):
    """Brown et al. 2020, appendix D: 300 billion tokens."""
    layers, width, heads = size
    config = settings(gpt2.get_config(), layers=layers, width=width, heads=heads, context=2048)
    assert flops.flops_per_token(config, 2048, "6n") * 300e9 == pytest.approx(paper, rel=0.005)


def test_a_causal_mask_halves_attention_with_its_diagonal():
    whole = flops.flops_per_token(GPT2_124M, 1024, "nanogpt")
    linear = 6 * flops.parameters(GPT2_124M).matmul
    kept = np.tri(1024).mean()
    assert flops.flops_per_token(GPT2_124M, 1024, "causal") - linear == pytest.approx((whole - linear) * kept)


def test_kaplan_leaves_embeddings_out():
    assert flops.flops_per_token(GPT2_124M, 1024, "kaplan") == 6 * (124_337_664 - (50257 + 1024) * 768)


def test_what_has_no_count_is_refused():
    with pytest.raises(UserError, match="did you mean 'palm'"):
        flops.flops_per_token(GPT2_124M, 1024, "plam")
    with pytest.raises(UserError, match="vocabulary"):
        flops.parameters(variants.config(vocab=0))
    with pytest.raises(UserError, match="no model.mlp called 'other'"):
        flops.parameters(variants.config(mlp="other"))


@pytest.mark.parametrize(
    ("kind", "rate"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA B200", 2250e12),
        ("NVIDIA GB200", 2500e12),
        ("TPU v4", 275e12),
        ("TPU v4 lite", None),
        ("TPU v5 lite", 197e12),
        ("TPU v5e", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_peaks_of_chips(kind, rate):
    assert flops.chip_peak(kind) == rate


def test_devices_of_one_cpu_share_its_rate(monkeypatch):
    monkeypatch.setattr(flops, "measure_peak", lambda: 5.0)
    found = flops.peak(jax.devices())
    assert jax.device_count() > 1 and (found.flops, found.measured) == (5.0, True)


def test_the_measured_rate_is_a_rate():
    assert 1e8 < flops.measure_peak(size=128, seconds=0.01) < 1e14


def test_the_rate_is_measured_with_all_devices_busy_whatever_the_mesh(monkeypatch):
    """A step that keeps eight virtual devices busy would else be compared with what one of them does alone."""
    ticks = itertools.count()
    monkeypatch.setattr(flops.time, "perf_counter", lambda: float(next(ticks)))  # a product takes a second
    mesh = jax.make_mesh((2,), ("x",), devices=jax.devices()[:2])
    with jax.set_mesh(mesh):
        assert flops.measure_peak(size=16, seconds=3) == jax.local_device_count() * 2 * 16**3
