"""GPT-J."""

from gpt_jax.interop.attention import Attention
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import GPT_SIZES, UNSCALED, Always, Biases, Choice, Dropouts, Norm, Same, four_widths
from gpt_jax.interop.names import READOUT, ROTARY_BUFFERS, SUMMARY, UNGATED, separate_heads
from gpt_jax.interop.rope import RotaryDim
from gpt_jax.interop.rows import linear, norm, table
from gpt_jax.registry import register


@register("interop.families", "gptj")
def gptj() -> Family:
    """Parallel branches under one norm; a part of each head turns in neighbouring pairs; the readout has a bias."""
    return Family(
        name="gptj",
        architecture="GPTJForCausalLM",
        prefix="transformer.",
        fields=(
            *GPT_SIZES,
            Same("mlp_width", "n_inner", four_widths),
            Always("block", "parallel"),
            RotaryDim(),
            *UNSCALED,
            Attention(),
            Norm("layernorm", "layer_norm_epsilon", 1e-5),
            Choice("mlp", "activation_function", UNGATED, "gelu_new"),
            Biases(("mlp", "norm", "readout")),
            Same("tied", "tie_word_embeddings", False),
            Dropouts(("resid_pdrop", "embd_pdrop", "attn_pdrop")),
        ),
        rows=(
            *table("embed/tokens", "transformer.wte", "V D"),
            *separate_heads("transformer.h.{i}.attn", "out_proj"),
            *linear("blocks/{i}/mlp/up", "transformer.h.{i}.mlp.fc_in", "D", "F"),
            *linear("blocks/{i}/mlp/down", "transformer.h.{i}.mlp.fc_out", "F", "D"),
            *norm("blocks/{i}/norm1", "transformer.h.{i}.ln_1"),
            *norm("norm", "transformer.ln_f"),
            *READOUT,
        ),
        inert=(*SUMMARY, "n_ctx"),
        buffers=rf"{ROTARY_BUFFERS}|.*\.attn\.(masked_)?bias|.*embed_positions",
    )
