"""Gemma 1."""

from gpt_jax.interop.attention import Attention
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import LLAMA_SIZES, Always, Biases, Choice, Norm, Only, Same, WholeHeads
from gpt_jax.interop.names import GATED, LLAMA, LLAMA_NORMS, ROTARY_BUFFERS
from gpt_jax.interop.rope import Rope
from gpt_jax.registry import register

TANH = "gelu_pytorch_tanh"


@register("interop.families", "gemma")
def gemma() -> Family:
    """Llama with scaled embeddings, norms stored as their distance from 1, and GELU in its tanh form."""
    return Family(
        name="gemma",
        architecture="GemmaForCausalLM",
        prefix="model.",
        fields=(
            *LLAMA_SIZES,
            Same("kv_heads", "num_key_value_heads", 16),
            Same("head_dim", "head_dim", 256),
            WholeHeads(),
            Same("mlp_width", "intermediate_size"),
            Always("block", "pre"),
            Rope(),
            Always("embed_scale", lambda knobs: knobs["width"] ** 0.5),
            Always("logit_softcap", 0.0),
            Attention(),
            Norm("rmsnorm", "rms_norm_eps", 1e-6, {"plus_one": True}),
            # The first releases say gelu and mean its tanh form.
            Choice("mlp", "hidden_act", {TANH: "geglu", **GATED, "gelu": "geglu"}, TANH),
            Only("hidden_activation", TANH),
            Biases((), {"attention_bias": (("qkv", "out"), False)}),
            Same("tied", "tie_word_embeddings", True),
            Only("use_bidirectional_attention", False),
        ),
        rows=(*LLAMA, *LLAMA_NORMS),
        buffers=ROTARY_BUFFERS,
    )
