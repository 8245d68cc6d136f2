"""Which proposals ``config.sample`` asks for."""

from collections.abc import Callable
from dataclasses import dataclass

from gpt_jax.config import ModelConfig, SampleConfig
from gpt_jax.errors import UserError
from gpt_jax.sample.decode import ONE_BY_ONE, Decoder
from gpt_jax.sample.engine.turns import Method
from gpt_jax.sample.processors import Tokenizer
from gpt_jax.sample.speculative.draft import AnotherModel, FirstLayers
from gpt_jax.sample.speculative.lookup import Lookup
from gpt_jax.sample.speculative.method import Speculative, require

KNOBS = ("draft", "draft_layers", "prompt_lookup_num_tokens")  # of which one may be set


@dataclass(frozen=True)
class Draft:
    """The model of another run, which proposes tokens.

    Args:
      params: in the layout that ``config.scan`` says.
      tokenizer: the fingerprint of its tokenizer; None where its tokens are not text.
    """

    config: ModelConfig
    params: dict
    tokenizer: str | None


Open = Callable[[str], Draft]  # of "runs/small" or "runs/small@500"


def refused(draft: str) -> Draft:
    """Raises UserError: where a model stands alone, no other one can be opened."""
    raise UserError(
        f"{draft} cannot be read here", where="config.sample.draft", fix="use the command sample, or gpt_jax.load"
    )


def of_config(sample: SampleConfig, config: ModelConfig, tokenizer: Tokenizer | None, opened: Open) -> Method:
    """How a model writes, as ``sample`` says: a token a turn where it names no proposals.

    Args:
      tokenizer: the model's.

    Raises:
      UserError: several kinds of proposals are asked for, or a kind that does not go with the model.
    """
    asked = [name for name in KNOBS if getattr(sample, name)]
    if not asked:
        return ONE_BY_ONE
    where = f"config.sample.{asked[0]}"
    if len(asked) > 1:
        raise UserError(
            f"{' and '.join(asked)} are set, and tokens are drafted in one way", where=where, fix="set one of them"
        )
    require(config, where)
    return MAKERS[asked[0]](sample, config, tokenizer, opened)


def _lookup(sample: SampleConfig, config: ModelConfig, tokenizer: Tokenizer | None, opened: Open) -> Method:
    return Speculative(Lookup(sample.prompt_lookup_num_tokens, sample.max_matching_ngram_size))


def _first_layers(sample: SampleConfig, config: ModelConfig, tokenizer: Tokenizer | None, opened: Open) -> Method:
    if sample.draft_layers >= config.layers:
        raise UserError(
            f"sample.draft_layers = {sample.draft_layers}, and the model has {config.layers} layers",
            where="config.sample.draft_layers",
            allowed=f"1 to {config.layers - 1}" if config.layers > 1 else "models of two layers or more",
        )
    return Speculative(FirstLayers(sample.num_assistant_tokens, sample.draft_layers))


def _another_model(sample: SampleConfig, config: ModelConfig, tokenizer: Tokenizer | None, opened: Open) -> Method:
    found = opened(sample.draft)
    where = "config.sample.draft"
    if found.config.vocab != config.vocab:
        raise UserError(
            f"{sample.draft} has {found.config.vocab} tokens, and the model has {config.vocab}",
            where=where,
            allowed="a model of the same vocabulary",
        )
    if found.tokenizer != (None if tokenizer is None else tokenizer.fingerprint):
        raise UserError(
            f"{sample.draft} has another tokenizer, so that the same ids are other texts",
            where=where,
            allowed="a model that was trained with the same tokenizer",
        )
    require(found.config, where)
    decoder = Decoder(found.config, found.params)
    return Speculative(AnotherModel(sample.num_assistant_tokens, decoder.config), decoder.weights)


MAKERS = dict(zip(KNOBS, (_another_model, _first_layers, _lookup), strict=True))
