"""Gemma 2."""

from gpt_jax.interop.attention import Attention, all_but_every
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import LLAMA_SIZES, Always, Biases, Choice, Norm, Only, OrNothing, Same, WholeHeads
from gpt_jax.interop.names import GATED, GEMMA_NORMS, LLAMA, ROTARY_BUFFERS
from gpt_jax.interop.rope import Rope
from gpt_jax.registry import register


@register("interop.families", "gemma2")
def gemma2() -> Family:
    """Norms before and after each branch, caps on scores and logits, every other layer local."""
    return Family(
        name="gemma2",
        architecture="Gemma2ForCausalLM",
        prefix="model.",
        fields=(
            *LLAMA_SIZES,
            Same("kv_heads", "num_key_value_heads", 4),
            Same("head_dim", "head_dim", 256),
            WholeHeads(),
            Same("mlp_width", "intermediate_size"),
            Always("block", "sandwich"),
            Rope(),
            Always("embed_scale", lambda knobs: knobs["width"] ** 0.5),
            OrNothing("logit_softcap", "final_logit_softcapping", 30.0),
            Attention(
                all_but_every(2),
                listed=True,
                scale=("query_pre_attn_scalar", 256),
                softcap=("attn_logit_softcapping", 50.0),
            ),
            Norm("rmsnorm", "rms_norm_eps", 1e-6, {"plus_one": True}),
            Choice("mlp", "hidden_activation", GATED, "gelu_pytorch_tanh"),
            Biases((), {"attention_bias": (("qkv", "out"), False)}),
            Same("tied", "tie_word_embeddings", True),
            Only("use_bidirectional_attention", False),
        ),
        rows=(*LLAMA, *GEMMA_NORMS),
        inert=("hidden_act", "sliding_window_size"),
        buffers=ROTARY_BUFFERS,
    )
