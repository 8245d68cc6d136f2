"""GPT-1."""

from gpt_jax.interop.attention import Attention
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import GPT_SIZES, UNSCALED, Always, Biases, Choice, Dropouts, Norm, Same, four_widths
from gpt_jax.interop.names import GPT_BLOCK, READOUT, SUMMARY
from gpt_jax.interop.rows import table
from gpt_jax.registry import register


@register("interop.families", "openai-gpt")
def openai_gpt() -> Family:
    """Post-norm blocks, learned positions, GELU in its tanh form."""
    return Family(
        name="openai-gpt",
        architecture="OpenAIGPTLMHeadModel",
        prefix="transformer.",
        fields=(
            *GPT_SIZES,
            Always("mlp_width", four_widths),
            Always("block", "post"),
            Always("position", "learned"),
            *UNSCALED,
            Attention(),
            Norm("layernorm", "layer_norm_epsilon", 1e-5),
            Choice("mlp", "afn", {"gelu": "gelu", "relu": "relu", "silu": "silu", "swish": "silu"}, "gelu"),
            Biases(("qkv", "out", "mlp", "norm")),
            Same("tied", "tie_word_embeddings", True),
            Dropouts(("resid_pdrop", "embd_pdrop", "attn_pdrop")),
        ),
        rows=(
            *table("embed/tokens", "transformer.tokens_embed", "V D"),
            *table("embed/position", "transformer.positions_embed", "T D"),
            *GPT_BLOCK,
            *READOUT,
        ),
        inert=(*SUMMARY, "n_ctx"),
        buffers=r".*\.attn\.bias|(.*\.)?position_ids",
    )
