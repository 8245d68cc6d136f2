"""gpt-oss."""

from dataclasses import dataclass

from gpt_jax.config import ModelConfig
from gpt_jax.interop.attention import Attention, all_but_every
from gpt_jax.interop.family import Family
from gpt_jax.interop.fields import LLAMA_SIZES, UNSCALED, Always, Biases, Knobs, Norm, Only, Same, per_head, spell
from gpt_jax.interop.names import LLAMA_NORMS, READOUT, ROTARY_BUFFERS, separate_heads
from gpt_jax.interop.rope import Rope
from gpt_jax.interop.rows import Row, linear, norm, table
from gpt_jax.interop.settings import ADVICE, Settings
from gpt_jax.model.mlp import moe
from gpt_jax.registry import register

EXPERTS, THEIRS = "blocks/{i}/mlp/experts", "model.layers.{i}.mlp.experts"


@dataclass(frozen=True)
class Mixture:
    """How many experts, and how many a token passes; the weight of the balance loss."""

    def read(self, given: Settings, knobs: Knobs) -> None:
        passed = given.take("num_experts_per_tok", 4)
        if given.take("experts_per_token", passed) != passed:
            raise given.refuse(
                "experts_per_token", given.take("experts_per_token"), f"{passed}, as num_experts_per_tok"
            )
        experts = given.take("num_local_experts", 128)
        if passed == 1 < experts:  # a weight of 1; here it is the router's probability
            raise given.refuse("num_experts_per_tok", passed, "2 or more")
        options = {
            "experts": experts,
            "top_k": passed,
            "activation": "clamped_swiglu",
            "balance": float(given.take("router_aux_loss_coef", 0.001)),
        }
        knobs["mlp"] = spell("moe", options)

    def write(self, model: ModelConfig, out: dict) -> None:
        mixture = moe.settings(model.mlp)
        out |= {"num_local_experts": mixture.experts, "num_experts_per_tok": mixture.top_k}
        out["router_aux_loss_coef"] = mixture.balance


@dataclass(frozen=True)
class Packed:
    """Experts may be stored in MXFP4, as they were published."""

    def read(self, given: Settings, knobs: Knobs) -> None:
        form = given.take("quantization_config", {})
        if form.get("quant_method", "mxfp4") != "mxfp4":
            raise given.refuse("quantization_config", form, "mxfp4", ADVICE["quantization_config"])

    def write(self, model: ModelConfig, out: dict) -> None:
        pass


@register("interop.families", "gpt_oss")
def gpt_oss() -> Family:
    """Experts, sinks, every other layer local."""
    return Family(
        name="gpt_oss",
        architecture="GptOssForCausalLM",
        prefix="model.",
        fields=(
            *LLAMA_SIZES,
            Same("kv_heads", "num_key_value_heads", 8),
            Same("head_dim", "head_dim", per_head),
            Same("mlp_width", "intermediate_size"),
            Always("block", "pre"),
            Rope(theta=150000.0),
            *UNSCALED,
            Attention(all_but_every(2), listed=True, options={"sink": True}, window=128),
            Norm("rmsnorm", "rms_norm_eps", 1e-5),
            Mixture(),
            Packed(),
            Only("hidden_act", "silu"),
            Only("swiglu_alpha", 1.702),
            Only("swiglu_limit", 7.0),
            Biases(("mlp", "router"), {"attention_bias": (("qkv", "out"), True)}),
            Same("tied", "tie_word_embeddings", False),
        ),
        rows=(
            *table("embed/tokens", "model.embed_tokens", "V D"),
            *separate_heads("model.layers.{i}.self_attn", "o_proj"),
            Row(("blocks/{i}/attention/sink",), "N", "model.layers.{i}.self_attn.sinks", "N"),
            *linear("blocks/{i}/mlp/router", "model.layers.{i}.mlp.router", "D", "E"),
            Row((f"{EXPERTS}/gate/w", f"{EXPERTS}/up/w"), "E D F", f"{THEIRS}.gate_up_proj", "E D (F p)"),
            Row((f"{EXPERTS}/gate/bias", f"{EXPERTS}/up/bias"), "E F", f"{THEIRS}.gate_up_proj_bias", "E (F p)"),
            Row((f"{EXPERTS}/down/w",), "E F D", f"{THEIRS}.down_proj", "E F D"),
            Row((f"{EXPERTS}/down/bias",), "E D", f"{THEIRS}.down_proj_bias", "E D"),
            *LLAMA_NORMS,
            *norm("norm", "model.norm"),
            *READOUT,
        ),
        inert=("initial_context_length",),
        buffers=ROTARY_BUFFERS,
    )
