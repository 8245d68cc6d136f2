"""The decoder that ``config.sample`` asks for."""

from dataclasses import dataclass, field

from gpt_jax.config import ModelConfig, SampleConfig
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.processors import Tokenizer
from gpt_jax.sample.speculative import choice

INT8 = ("cache", "weights")  # the knobs that say what is kept as int8
KNOBS = (*choice.KNOBS, "max_matching_ngram_size", "num_assistant_tokens", *INT8)  # that make another decoder


@dataclass(frozen=True)
class Decoders:
    """Decoders of one model.

    Args:
      params: in the layout that ``config.scan`` says.
      opened: reads the model that ``sample.draft`` names.
    """

    config: ModelConfig
    params: dict
    tokenizer: Tokenizer | None
    opened: choice.Open
    _last: dict[tuple, Decoder] = field(default_factory=dict)

    def of(self, sample: SampleConfig) -> Decoder:
        """The last one, as long as it is what is asked for: its weights are laid out anew, and take memory.

        Raises:
          UserError: the model cannot be decoded as ``sample`` says.
        """
        asked = tuple(getattr(sample, name) for name in KNOBS)
        if asked not in self._last:
            self._last.clear()
            method = choice.of_config(sample, self.config, self.tokenizer, self.opened)
            int8 = [name for name in INT8 if getattr(sample, name) == "int8"]
            self._last[asked] = Decoder(self.config, self.params, method=method, int8=int8)
        return self._last[asked]
