"""Names that several families share."""

from gpt_jax.interop.rows import Row, conv1d, linear, norm, table

# Activations as Hugging Face calls them -> ours.
UNGATED = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_fast": "gelu",
    "gelu": "gelu_erf",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
GATED = {
    "silu": "swiglu",
    "swish": "swiglu",
    "gelu_pytorch_tanh": "geglu",
    "gelu_new": "geglu",
    "gelu": "geglu_erf",
    "relu": "reglu",
    "sigmoid": "glu",
    "linear": "bilinear",
}
# Of the classification heads of GPT-1 and GPT-2, and of GPT-1's additional tokens, which its vocabulary counts.
SUMMARY = (
    "n_special",
    "predict_special_tokens",
    "summary_type",
    "summary_use_proj",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_first_dropout",
)
QK_NORM_EPS = 1e-6  # of our norms of queries and keys; theirs is that of all norms
READOUT: tuple[Row, ...] = linear("readout", "lm_head", "D", "V")
ROTARY_BUFFERS = r".*rotary_emb\.inv_freq|.*\.attention\.(masked_)?bias"


def separate_heads(theirs: str, out: str) -> tuple[Row, ...]:
    """Queries, keys, values and output as four linear layers of an attention called ``theirs``."""
    return (
        *linear("blocks/{i}/attention/q", f"{theirs}.q_proj", "D", "N H"),
        *linear("blocks/{i}/attention/k", f"{theirs}.k_proj", "D", "K H"),
        *linear("blocks/{i}/attention/v", f"{theirs}.v_proj", "D", "K H"),
        *linear("blocks/{i}/attention/out", f"{theirs}.{out}", "N H", "D"),
    )


HEADS = tuple(f"blocks/{{i}}/attention/{name}" for name in "qkv")
GPT_BLOCK: tuple[Row, ...] = (
    *conv1d(HEADS, "transformer.h.{i}.attn.c_attn", "D", "N H"),
    *conv1d(["blocks/{i}/attention/out"], "transformer.h.{i}.attn.c_proj", "N H", "D"),
    *conv1d(["blocks/{i}/mlp/up"], "transformer.h.{i}.mlp.c_fc", "D", "F"),
    *conv1d(["blocks/{i}/mlp/down"], "transformer.h.{i}.mlp.c_proj", "F", "D"),
    *norm("blocks/{i}/norm1", "transformer.h.{i}.ln_1"),
    *norm("blocks/{i}/norm2", "transformer.h.{i}.ln_2"),
)
LLAMA: tuple[Row, ...] = (
    *table("embed/tokens", "model.embed_tokens", "V D"),
    *separate_heads("model.layers.{i}.self_attn", "o_proj"),
    *linear("blocks/{i}/mlp/up", "model.layers.{i}.mlp.up_proj", "D", "F"),
    *linear("blocks/{i}/mlp/gate", "model.layers.{i}.mlp.gate_proj", "D", "F"),
    *linear("blocks/{i}/mlp/down", "model.layers.{i}.mlp.down_proj", "F", "D"),
    *norm("norm", "model.norm"),
    *READOUT,
)
LLAMA_NORMS: tuple[Row, ...] = (
    *norm("blocks/{i}/norm1", "model.layers.{i}.input_layernorm"),
    *norm("blocks/{i}/norm2", "model.layers.{i}.post_attention_layernorm"),
)
GEMMA_NORMS: tuple[Row, ...] = (
    *norm("blocks/{i}/norm1", "model.layers.{i}.input_layernorm"),
    *norm("blocks/{i}/norm1_out", "model.layers.{i}.post_attention_layernorm"),
    *norm("blocks/{i}/norm2", "model.layers.{i}.pre_feedforward_layernorm"),
    *norm("blocks/{i}/norm2_out", "model.layers.{i}.post_feedforward_layernorm"),
)


def head_norms(plus: float = 0.0) -> tuple[Row, ...]:
    """Norms of queries and keys."""
    return (
        *norm("blocks/{i}/attention/q_norm", "model.layers.{i}.self_attn.q_norm", "H", plus),
        *norm("blocks/{i}/attention/k_norm", "model.layers.{i}.self_attn.k_norm", "H", plus),
    )
