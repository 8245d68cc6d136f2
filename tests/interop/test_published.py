"""The ``config.json`` of published models says what our presets of them say."""

import dataclasses

import pytest

from gpt_jax import configs
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.interop import families
from gpt_jax.interop.compare import difference

LLAMA = {"hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "initializer_range": 0.02}
GEMMA = {
    "attention_bias": False,
    "cache_implementation": "hybrid",
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "num_hidden_layers": 26,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
}
GPT = {
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "layer_norm_epsilon": 1e-5,
    "summary_type": "cls_index",
}


def sizes(layers, width, heads, vocab, context, **others):
    return others | {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "vocab_size": vocab,
        "max_position_embeddings": context,
    }


def gpt_sizes(layers, width, heads, vocab, context, **others):
    names = {"n_layer": layers, "n_embd": width, "n_head": heads, "vocab_size": vocab, "n_positions": context}
    return GPT | others | names | {"n_ctx": context}


# preset -> model_type and what its config.json says, without what is inert.
PUBLISHED = {
    "gpt1": ("openai-gpt", gpt_sizes(12, 768, 12, 40478, 512, afn="gelu", predict_special_tokens=True, n_special=0)),
    "gpt2:124m": ("gpt2", gpt_sizes(12, 768, 12, 50257, 1024, activation_function="gelu_new")),
    "gptj": (
        "gptj",
        gpt_sizes(28, 4096, 16, 50400, 2048, rotary=True, rotary_dim=64, n_inner=None, tie_word_embeddings=False),
    ),
    "pythia:70m": (
        "gpt_neox",
        sizes(
            6, 512, 8, 50304, 2048, intermediate_size=2048, rotary_emb_base=10000, rotary_pct=0.25, hidden_act="gelu"
        ),
    ),
    "opt:125m": (
        "opt",
        sizes(
            12, 768, 12, 50272, 2048, ffn_dim=3072, activation_function="relu", word_embed_proj_dim=768, prefix="</s>"
        ),
    ),
    "llama:7b": ("llama", LLAMA | sizes(32, 4096, 32, 32000, 2048, intermediate_size=11008, rms_norm_eps=1e-6)),
    "llama:llama2-70b": (
        "llama",
        LLAMA | sizes(80, 8192, 64, 32000, 4096, intermediate_size=28672, num_key_value_heads=8, pretraining_tp=1),
    ),
    "llama:llama3-8b": (
        "llama",
        LLAMA | sizes(32, 4096, 32, 128256, 8192, intermediate_size=14336, num_key_value_heads=8, rope_theta=500000.0),
    ),
    "mistral": (
        "mistral",
        LLAMA | sizes(32, 4096, 32, 32000, 32768, intermediate_size=14336, num_key_value_heads=8, sliding_window=4096),
    ),
    "qwen3:0.6b": (
        "qwen3",
        LLAMA
        | sizes(28, 1024, 16, 151936, 40960, intermediate_size=3072, num_key_value_heads=8, head_dim=128)
        | {"rms_norm_eps": 1e-6, "rope_theta": 1000000, "tie_word_embeddings": True, "max_window_layers": 28}
        | {"use_sliding_window": False, "sliding_window": None},
    ),
    "gemma:2-2b": (
        "gemma2",
        GEMMA
        | sizes(26, 2304, 8, 256000, 8192, intermediate_size=9216, num_key_value_heads=4, sliding_window=4096)
        | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "rope_theta": 10000.0},
    ),
    "gemma:3-1b": (
        "gemma3_text",
        GEMMA
        | sizes(26, 1152, 4, 262144, 32768, intermediate_size=6912, num_key_value_heads=1, sliding_window=512)
        | {"sliding_window_pattern": 6, "rope_theta": 1000000, "rope_local_base_freq": 10000}
        | {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    ),
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_presets(preset):
    ours = Config.from_dict(configs.load(preset).to_dict()).model
    model_type, values = PUBLISHED[preset]
    theirs = families.named(model_type, "").config(values, "config.json", base.get_config().to_dict()).model
    # How far a model is run is not what it is: presets have the length it was trained at.
    assert difference(dataclasses.replace(ours, context=theirs.context), theirs) == ""
