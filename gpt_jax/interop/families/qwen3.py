"""Qwen 3."""

from gpt_jax.interop.attention import Attention, upper
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import LLAMA_SIZES, UNSCALED, Always, Biases, Choice, Norm, Only, Same, head_count
from gpt_jax.interop.names import GATED, LLAMA, LLAMA_NORMS, QK_NORM_EPS, ROTARY_BUFFERS, head_norms
from gpt_jax.interop.rope import Rope
from gpt_jax.registry import register


@register("interop.families", "qwen3")
def qwen3() -> Family:
    """Llama with normalised queries and keys."""
    return Family(
        name="qwen3",
        architecture="Qwen3ForCausalLM",
        prefix="model.",
        fields=(
            *LLAMA_SIZES,
            Same("kv_heads", "num_key_value_heads", head_count),
            Same("head_dim", "head_dim", 128),
            Same("mlp_width", "intermediate_size"),
            Always("block", "pre"),
            Rope(),
            *UNSCALED,
            Attention(upper, listed=True, options={"qk_norm": "rms"}),
            Norm("rmsnorm", "rms_norm_eps", 1e-6),
            Choice("mlp", "hidden_act", GATED, "silu"),
            Biases((), {"attention_bias": (("qkv", "out"), False)}),
            Same("tied", "tie_word_embeddings", False),
            Only("rms_norm_eps", QK_NORM_EPS),
        ),
        rows=(*LLAMA, *LLAMA_NORMS, *head_norms()),
        buffers=ROTARY_BUFFERS,
    )
