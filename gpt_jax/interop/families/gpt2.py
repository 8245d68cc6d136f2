"""GPT-2."""

from gpt_jax.interop.attention import Attention
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import GPT_SIZES, UNSCALED, Always, Biases, Choice, Dropouts, Norm, Only, Same, four_widths
from gpt_jax.interop.names import GPT_BLOCK, READOUT, SUMMARY, UNGATED
from gpt_jax.interop.rows import norm, table
from gpt_jax.registry import register


@register("interop.families", "gpt2")
def gpt2() -> Family:
    """Pre-norm blocks, learned positions, GELU in its tanh form."""
    return Family(
        name="gpt2",
        architecture="GPT2LMHeadModel",
        prefix="transformer.",
        fields=(
            *GPT_SIZES,
            Same("mlp_width", "n_inner", four_widths),
            Always("block", "pre"),
            Always("position", "learned"),
            *UNSCALED,
            Attention(),
            Norm("layernorm", "layer_norm_epsilon", 1e-5),
            Choice("mlp", "activation_function", UNGATED, "gelu_new"),
            Biases(("qkv", "out", "mlp", "norm")),
            Same("tied", "tie_word_embeddings", True),
            Only("scale_attn_weights", True),
            Only("scale_attn_by_inverse_layer_idx", False),
            Only("add_cross_attention", False),
            Dropouts(("resid_pdrop", "embd_pdrop", "attn_pdrop")),
        ),
        rows=(
            *table("embed/tokens", "transformer.wte", "V D"),
            *table("embed/position", "transformer.wpe", "T D"),
            *GPT_BLOCK,
            *norm("norm", "transformer.ln_f"),
            *READOUT,
        ),
        inert=(*SUMMARY, "n_ctx", "reorder_and_upcast_attn"),
        buffers=r".*\.attn\.(masked_)?bias",
    )
