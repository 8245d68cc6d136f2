"""The settings in a ``config.json``, each read once; one that is not read is an error, unless it is harmless."""

from collections.abc import Iterable
from typing import Any

from gpt_jax.errors import UserError

REQUIRED = object()
# About the file, or the code that reads it.
OF_THE_FILE = frozenset(
    """
    architectures model_type transformers_version torch_dtype dtype _name_or_path _commit_hash name_or_path auto_map
    unsloth_version unsloth_fixed _attn_implementation_autoset _attn_implementation attn_implementation
    _experts_implementation _experts_implementation_autoset _flash_attn_2_enabled is_llama_config use_cache torchscript
    gradient_checkpointing use_bfloat16 output_past transformers.js_config transformers_weights chunk_size_feed_forward
    keys_to_ignore_at_inference is_decoder pretraining_tp cache_implementation max_sequence_length model_max_length
    max_seq_len max_seq_length seq_length use_flash_attn use_flash_attention use_flash_attention_2
    _use_flash_attention_2 use_sdpa loss_type custom_pipelines author license created_date
    """.split()
)
# How the model was initialised and trained, is wrapped for other tasks, or generates: an export keeps these.
OF_THE_MODEL = frozenset(
    """
    initializer_range initializer_factor init_std attention_dropout hidden_dropout hidden_dropout_prob dropout
    attention_probs_dropout_prob activation_dropout classifier_dropout resid_pdrop embd_pdrop attn_pdrop layerdrop
    bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id unk_token_id mask_token_id decoder_start_token_id
    tokenizer_class task_specific_params id2label label2id num_labels _num_labels problem_type finetuning_task
    output_attentions output_hidden_states return_dict tf_legacy_loss output_router_logits prefix
    do_sample max_length max_new_tokens min_length temperature top_k top_p typical_p epsilon_cutoff eta_cutoff num_beams
    num_beam_groups num_return_sequences early_stopping diversity_penalty repetition_penalty length_penalty
    penalty_alpha no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids suppress_tokens begin_suppress_tokens
    forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty
    output_scores return_dict_in_generate
    """.split()
)
# Key -> the values at which it changes nothing, where an empty value would change something or another one nothing.
AT: dict[str, tuple] = {
    "is_causal": (True,),
    "rotary": (True,),
    "scale_attn_weights": (True,),
    "partial_rotary_factor": (1.0,),
    "rope_ratio": (1.0,),
    "embedding_multiplier": (1.0,),
    "residual_multiplier": (1.0,),
    "logits_scaling": (1.0,),
}
EMPTY: tuple = (None, "", [], {})
# Key -> what to do about it.
ADVICE = {
    "quantization_config": "open it in transformers, which can dequantize() it, and save_pretrained() what comes of that",
    "quantization": "download the model that was quantised: its weights are floating-point numbers",
    "is_encoder_decoder": "an encoder with a decoder is none of the families that can be imported",
}
OTHERWISE = "remove it from a copy of config.json if it does not change what the model computes"


class Settings:
    """See above.

    Args:
      values: the contents of the file.
      where: its path.
    """

    def __init__(self, values: dict[str, Any], where: str):
        self._values, self._where = values, where
        self._read: set[str] = set()

    def take(self, key: str, default: Any = REQUIRED) -> Any:
        """The value of a key; the default where it is missing or null.

        Raises:
          UserError: it is missing and has no default.
        """
        self._read.add(key)
        value = self._values.get(key)
        if value is None and default is REQUIRED:
            raise UserError(f"{key} is missing", where=self._where)
        return default if value is None else value

    def nullable(self, key: str, default: Any) -> Any:
        """The value of a key whose null means 0; the default where it is missing."""
        return self.take(key, 0 if key in self._values else default)

    def refuse(self, key: str, value: Any, allowed: str, fix: str = "") -> UserError:
        """The error that says a value has no counterpart here."""
        return UserError(
            f"{key} = {value!r} has no counterpart here", where=f"{self._where}: {key}", allowed=allowed, fix=fix
        )

    def finish(self, inert: Iterable[str]) -> None:
        """Checks that nothing is left.

        Args:
          inert: settings without effect on the logits of this family.

        Raises:
          UserError: a setting was not read and is not known to be harmless at its value.
        """
        for key, value in self._values.items():
            if key not in self._read and key not in inert and not harmless(key, value):
                allowed = ", ".join(map(repr, AT[key])) if key in AT else "null or false: what it does is not known"
                raise self.refuse(key, value, allowed, ADVICE.get(key, OTHERWISE))


def harmless(key: str, value: Any) -> bool:
    """Whether a setting that no family reads can be left out: known as such, or switched off."""
    if key in AT:
        return value is None or value in AT[key]
    return key in OF_THE_FILE or key in OF_THE_MODEL or value is False or value in EMPTY
