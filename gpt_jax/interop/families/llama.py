"""Llama 1 to 3, TinyLlama, and what else has their shape."""

from gpt_jax.interop.attention import Attention
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import (
    LLAMA_SIZES,
    UNSCALED,
    Always,
    Biases,
    Choice,
    Norm,
    Same,
    WholeHeads,
    head_count,
    per_head,
)
from gpt_jax.interop.names import GATED, LLAMA, LLAMA_NORMS, ROTARY_BUFFERS
from gpt_jax.interop.rope import Rope
from gpt_jax.registry import register


@register("interop.families", "llama")
def llama() -> Family:
    """Pre-norm blocks with RMSNorm, rotary positions and a gated MLP, mostly without biases."""
    return Family(
        name="llama",
        architecture="LlamaForCausalLM",
        prefix="model.",
        fields=(
            *LLAMA_SIZES,
            Same("kv_heads", "num_key_value_heads", head_count),
            Same("head_dim", "head_dim", per_head),
            WholeHeads(),
            Same("mlp_width", "intermediate_size"),
            Always("block", "pre"),
            Rope(),
            *UNSCALED,
            Attention(),
            Norm("rmsnorm", "rms_norm_eps", 1e-6),
            Choice("mlp", "hidden_act", GATED, "silu"),
            Biases((), {"attention_bias": (("qkv", "out"), False), "mlp_bias": (("mlp",), False)}),
            Same("tied", "tie_word_embeddings", False),
        ),
        rows=(*LLAMA, *LLAMA_NORMS),
        buffers=ROTARY_BUFFERS,
    )
