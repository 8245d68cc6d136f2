"""The settings in a ``config.json``, each read once; one that is not read is an error."""

from collections.abc import Iterable
from typing import Any

from gpt_jax.errors import UserError

REQUIRED = object()
# What does not change the logits: how the model was trained, generates, was saved, or is wrapped.
INERT = frozenset(
    """
    architectures model_type transformers_version torch_dtype dtype _name_or_path _commit_hash name_or_path use_cache
    initializer_range init_std bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id unk_token_id
    decoder_start_token_id tokenizer_class task_specific_params id2label label2id num_labels problem_type
    finetuning_task output_attentions output_hidden_states return_dict chunk_size_feed_forward torchscript
    gradient_checkpointing classifier_dropout attention_dropout layerdrop keys_to_ignore_at_inference
    do_sample max_length min_length temperature top_k top_p num_beams prefix
    """.split()
)


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

    def refuse(self, key: str, value: Any, allowed: str) -> UserError:
        """The error that says a value has no counterpart here."""
        return UserError(f"{key} = {value!r} has no counterpart here", where=f"{self._where}: {key}", allowed=allowed)

    def finish(self, inert: Iterable[str]) -> None:
        """Checks that nothing is left.

        Raises:
          UserError: a setting that is not null was not read and is not known to be inert.
        """
        known = self._read | INERT | set(inert)
        for key, value in self._values.items():
            if key not in known and value is not None:
                raise self.refuse(key, value, "null, or no such key: what it does to the model is not known")
