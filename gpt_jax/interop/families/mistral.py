"""Mistral 7B."""

from gpt_jax.interop.attention import Attention, always
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import LLAMA_SIZES, UNSCALED, Always, Biases, Choice, Norm, Same, per_head
from gpt_jax.interop.names import GATED, LLAMA, LLAMA_NORMS, ROTARY_BUFFERS
from gpt_jax.interop.rope import Rope
from gpt_jax.registry import register


@register("interop.families", "mistral")
def mistral() -> Family:
    """Llama with grouped heads and a sliding window."""
    return Family(
        name="mistral",
        architecture="MistralForCausalLM",
        prefix="model.",
        fields=(
            *LLAMA_SIZES,
            Same("kv_heads", "num_key_value_heads", 8),
            Same("head_dim", "head_dim", per_head),
            Same("mlp_width", "intermediate_size"),
            Always("block", "pre"),
            Rope(),
            *UNSCALED,
            Attention(always),
            Norm("rmsnorm", "rms_norm_eps", 1e-6),
            Choice("mlp", "hidden_act", GATED, "silu"),
            Biases(),
            Same("tied", "tie_word_embeddings", False),
        ),
        rows=(*LLAMA, *LLAMA_NORMS),
        buffers=ROTARY_BUFFERS,
    )
