"""OPT."""

from gpt_jax.interop.attention import Attention
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import LLAMA_SIZES, MULTI_HEAD, UNSCALED, Always, Biases, Choice, Dropouts, Only, Same
from gpt_jax.interop.names import READOUT, UNGATED, separate_heads
from gpt_jax.interop.rows import linear, norm, table
from gpt_jax.registry import register


@register("interop.families", "opt")
def opt() -> Family:
    """GPT-3's shape with ReLU; two unused rows stand in front of the table of positions."""
    layer = "model.decoder.layers.{i}"
    return Family(
        name="opt",
        architecture="OPTForCausalLM",
        prefix="model.",
        fields=(
            *LLAMA_SIZES,
            *MULTI_HEAD,
            Same("mlp_width", "ffn_dim"),
            Choice("block", "do_layer_norm_before", {True: "pre", False: "post"}, True),
            Always("position", "learned"),
            *UNSCALED,
            Attention(),
            Always("norm", "layernorm"),
            Choice("mlp", "activation_function", UNGATED, "relu"),
            Biases(("norm",), {"enable_bias": (("qkv", "out", "mlp"), True)}),
            Same("tied", "tie_word_embeddings", True),
            Only("word_embed_proj_dim", lambda knobs: knobs["width"]),
            Only("_remove_final_layer_norm", False),
            Only("layer_norm_elementwise_affine", True),
            Dropouts(("dropout", "attention_dropout")),
        ),
        rows=(
            *table("embed/tokens", "model.decoder.embed_tokens", "V D"),
            *table("embed/position", "model.decoder.embed_positions", "T D", skip=2),
            *separate_heads(f"{layer}.self_attn", "out_proj"),
            *linear("blocks/{i}/mlp/up", f"{layer}.fc1", "D", "F"),
            *linear("blocks/{i}/mlp/down", f"{layer}.fc2", "F", "D"),
            *norm("blocks/{i}/norm1", f"{layer}.self_attn_layer_norm"),
            *norm("blocks/{i}/norm2", f"{layer}.final_layer_norm"),
            *norm("norm", "model.decoder.final_layer_norm"),
            *READOUT,
        ),
    )
