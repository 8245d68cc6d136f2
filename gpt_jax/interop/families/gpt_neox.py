"""GPT-NeoX and Pythia."""

from gpt_jax.interop.attention import Attention
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import LLAMA_SIZES, MULTI_HEAD, UNSCALED, Biases, Choice, Dropouts, Norm, Same
from gpt_jax.interop.names import HEADS, ROTARY_BUFFERS, UNGATED
from gpt_jax.interop.rope import Rope
from gpt_jax.interop.rows import Row, linear, norm, table
from gpt_jax.registry import register

BLOCKS = {True: "parallel(shared_norm=False)", False: "pre"}


@register("interop.families", "gpt_neox")
def gpt_neox() -> Family:
    """Parallel branches with a norm each; queries, keys and values are interleaved head by head."""
    fused, layer = "gpt_neox.layers.{i}.attention.query_key_value", "gpt_neox.layers.{i}"
    return Family(
        name="gpt_neox",
        architecture="GPTNeoXForCausalLM",
        prefix="gpt_neox.",
        fields=(
            *LLAMA_SIZES,
            *MULTI_HEAD,
            Same("mlp_width", "intermediate_size"),
            Choice("block", "use_parallel_residual", BLOCKS, True),
            Rope("rotary_emb_base", 10000.0, "rotary_pct", 0.25),
            *UNSCALED,
            Attention(),
            Norm("layernorm", "layer_norm_eps", 1e-5),
            Choice("mlp", "hidden_act", UNGATED, "gelu"),
            Biases(("mlp", "norm"), {"attention_bias": (("qkv", "out"), True)}),
            Same("tied", "tie_word_embeddings", False),
            Dropouts(("attention_dropout", "hidden_dropout")),
        ),
        rows=(
            *table("embed/tokens", "gpt_neox.embed_in", "V D"),
            Row(tuple(f"{path}/w" for path in HEADS), "D N H", f"{fused}.weight", "(N p H) D"),
            Row(tuple(f"{path}/bias" for path in HEADS), "N H", f"{fused}.bias", "(N p H)"),
            *linear("blocks/{i}/attention/out", f"{layer}.attention.dense", "N H", "D"),
            *linear("blocks/{i}/mlp/up", f"{layer}.mlp.dense_h_to_4h", "D", "F"),
            *linear("blocks/{i}/mlp/down", f"{layer}.mlp.dense_4h_to_h", "F", "D"),
            *norm("blocks/{i}/norm1", f"{layer}.input_layernorm"),
            *norm("blocks/{i}/norm2", f"{layer}.post_attention_layernorm"),
            *norm("norm", "gpt_neox.final_layer_norm"),
            *linear("readout", "embed_out", "D", "V"),
        ),
        buffers=ROTARY_BUFFERS,
    )
