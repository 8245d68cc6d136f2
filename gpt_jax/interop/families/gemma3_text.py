"""Gemma 3, text models."""

from gpt_jax.interop.attention import Attention, all_but_every
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import LLAMA_SIZES, Always, Biases, Choice, Norm, Only, OrNothing, Same, WholeHeads
from gpt_jax.interop.names import GATED, GEMMA_NORMS, LLAMA, QK_NORM_EPS, ROTARY_BUFFERS, head_norms
from gpt_jax.interop.rope import TwoRopes
from gpt_jax.registry import register


@register("interop.families", "gemma3_text")
def gemma3_text() -> Family:
    """Gemma 2 without caps; queries and keys are normalised, five of six layers are local with positions of their own."""
    return Family(
        name="gemma3_text",
        architecture="Gemma3ForCausalLM",
        prefix="model.",
        fields=(
            *LLAMA_SIZES,
            Same("kv_heads", "num_key_value_heads", 4),
            Same("head_dim", "head_dim", 256),
            WholeHeads(),
            Same("mlp_width", "intermediate_size"),
            Always("block", "sandwich"),
            Always("embed_scale", lambda knobs: knobs["width"] ** 0.5),
            OrNothing("logit_softcap", "final_logit_softcapping", 0.0),
            Attention(
                all_but_every(6, "sliding_window_pattern"),
                True,
                {"qk_norm": "rms"},
                ("query_pre_attn_scalar", 256),
                ("attn_logit_softcapping", 0.0),
            ),
            TwoRopes(),
            Norm("rmsnorm", "rms_norm_eps", 1e-6, {"plus_one": True}),
            Choice("mlp", "hidden_activation", GATED, "gelu_pytorch_tanh"),
            Biases((), {"attention_bias": (("qkv", "out"), False)}),
            Same("tied", "tie_word_embeddings", True),
            Only("use_bidirectional_attention", False),
            Only("rms_norm_eps", QK_NORM_EPS),
        ),
        rows=(*LLAMA, *GEMMA_NORMS, *head_norms(plus=1.0)),
        inert=("hidden_act", "_sliding_window_pattern"),
        buffers=ROTARY_BUFFERS,
    )
