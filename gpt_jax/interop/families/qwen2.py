"""Qwen 2 and 2.5."""

from gpt_jax.interop.attention import Attention, upper
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import LLAMA_SIZES, UNSCALED, Always, Biases, Choice, Norm, Same, head_count, per_head
from gpt_jax.interop.names import GATED, LLAMA, LLAMA_NORMS, ROTARY_BUFFERS
from gpt_jax.interop.rope import Rope
from gpt_jax.registry import register


@register("interop.families", "qwen2")
def qwen2() -> Family:
    """Llama with biases of queries, keys and values; upper layers may have a sliding window."""
    return Family(
        name="qwen2",
        architecture="Qwen2ForCausalLM",
        prefix="model.",
        fields=(
            *LLAMA_SIZES,
            Same("kv_heads", "num_key_value_heads", head_count),
            Same("head_dim", "head_dim", per_head),
            Same("mlp_width", "intermediate_size"),
            Always("block", "pre"),
            Rope(),
            *UNSCALED,
            Attention(upper, listed=True),
            Norm("rmsnorm", "rms_norm_eps", 1e-6),
            Choice("mlp", "hidden_act", GATED, "silu"),
            Biases(("qkv",)),
            Same("tied", "tie_word_embeddings", False),
        ),
        rows=(*LLAMA, *LLAMA_NORMS),
        inert=("use_mrope",),
        buffers=ROTARY_BUFFERS,
    )
