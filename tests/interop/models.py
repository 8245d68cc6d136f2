"""Tiny models of every family, with random weights, and the three prompts they are compared on."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.model import gpt
from gpt_jax.run_directory import read_config
from gpt_jax.train.run import open_to_read
from gpt_jax.train.step import read_params

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

V, T, L, D, N = 67, 24, 2, 16, 4
PROMPTS = [[3, 14, 15, 9, 26], [5, 35, 8], [2, 7, 18, 28, 18, 28, 4, 59, 45, 23, 53, 60]]

GPT2_SIZES = {"vocab_size": V, "n_positions": T, "n_embd": D, "n_layer": L, "n_head": N}
SIZES = {
    "vocab_size": V,
    "max_position_embeddings": T,
    "hidden_size": D,
    "num_hidden_layers": L,
    "num_attention_heads": N,
}
LLAMA = SIZES | {"intermediate_size": 24, "num_key_value_heads": 2}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 8}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}
SLIDING, FULL = "sliding_attention", "full_attention"
GEMMA = LLAMA | {"head_dim": 8, "sliding_window": 4, "num_hidden_layers": 4}
CAPS = {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0}  # low enough to be felt
OSS = LLAMA | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4}
OSS |= {"rope_parameters": {**YARN, "truncate": False}}
# name -> (model_type, settings)
MODELS = {
    "openai-gpt": ("openai-gpt", GPT2_SIZES),
    "gpt2": ("gpt2", GPT2_SIZES | {"n_inner": 40}),
    "gpt2-untied": ("gpt2", GPT2_SIZES | {"tie_word_embeddings": False, "activation_function": "relu"}),
    "gpt_neox": ("gpt_neox", SIZES | {"intermediate_size": 40, "rotary_pct": 0.5}),
    "gpt_neox-pre": (
        "gpt_neox",
        SIZES | {"intermediate_size": 40, "use_parallel_residual": False, "attention_bias": False, "rotary_pct": 1.0},
    ),
    "gptj": ("gptj", GPT2_SIZES | {"rotary_dim": 2}),
    "opt": ("opt", SIZES | {"ffn_dim": 40}),
    "opt-post": ("opt", SIZES | {"ffn_dim": 40, "do_layer_norm_before": False}),
    "llama": ("llama", LLAMA),
    "llama-biased": ("llama", LLAMA | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama-llama3": ("llama", LLAMA | {"head_dim": 8, "rope_parameters": LLAMA3}),
    "llama-yarn": ("llama", LLAMA | {"head_dim": 8, "rope_parameters": YARN}),
    "llama-linear": ("llama", LLAMA | {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}),
    "mistral": ("mistral", LLAMA | {"sliding_window": 4, "rope_parameters": YARN | {"attention_factor": 1.0}}),
    "mistral-full": ("mistral", LLAMA | {"sliding_window": None}),
    "qwen2": ("qwen2", LLAMA | {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}}),
    "qwen2-sliding": ("qwen2", LLAMA | {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}),
    "qwen3": ("qwen3", LLAMA | {"head_dim": 8}),
    "gemma": ("gemma", LLAMA | {"head_dim": 8}),
    "gemma2": ("gemma2", GEMMA | CAPS | {"query_pre_attn_scalar": 12}),
    "gemma2-uncapped": ("gemma2", GEMMA | {"final_logit_softcapping": None, "attn_logit_softcapping": None}),
    "gpt_oss": ("gpt_oss", OSS),
    "gpt_oss-unbiased": ("gpt_oss", OSS | {"attention_bias": False}),
    "gemma3": ("gemma3_text", GEMMA | {"layer_types": [SLIDING, SLIDING, FULL, SLIDING], "query_pre_attn_scalar": 8}),
}
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def model(name: str):
    """The random model of a name."""
    model_type, settings = MODELS[name]
    return shaken(transformers.AutoConfig.for_model(model_type, **(NO_TOKENS | settings)))


def shaken(config):
    """A random model of a configuration, large enough in its values that every part counts."""
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return made


def their_logits(made) -> list[np.ndarray]:
    with torch.no_grad():
        return [made(torch.tensor([prompt])).logits[0].float().numpy() for prompt in PROMPTS]


def our_logits(workdir: Path) -> list[np.ndarray]:
    """By the run in a directory, opened as evaluation and sampling open it; the prompts are padded into one batch."""
    config = Config.from_dict(read_config(workdir))
    run = open_to_read(config, workdir)
    _, state, _ = run.restore(run.checkpoints())
    params = jax.device_get(read_params(state))
    longest = max(map(len, PROMPTS))
    tokens_BT = np.array([prompt + [0] * (longest - len(prompt)) for prompt in PROMPTS])
    logits_BTV = jax.jit(lambda params: nnx.merge(gpt.graphdef(config.model), params)(tokens_BT))(params)
    return [np.asarray(logits_TV)[: len(prompt)] for logits_TV, prompt in zip(logits_BTV, PROMPTS, strict=True)]


def apart(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """The largest difference."""
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


def others() -> dict:
    """The knobs that a directory says nothing about."""
    values = base.get_config()
    values.data.tokenizer = "none"
    return values.to_dict()


def fresh_run(workdir: Path, changes: dict) -> None:
    """A run directory as training leaves it, of a model with the knobs in ``changes``."""
    values = others()
    values["model"].update(changes)
    config = Config.from_dict(values)
    workdir.mkdir()
    (workdir / "config.json").write_text(config.to_json())
    run = open_to_read(config, workdir)
    checkpoints = run.checkpoints()
    checkpoints.save(7, run.program.stack(run.program.init(0)), {"data": ""})
    checkpoints.close()
