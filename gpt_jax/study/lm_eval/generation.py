"""What the harness asks to be written, in the knobs of ``config.sample``."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from gpt_jax.config import SampleConfig
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.limits import section
from gpt_jax.sample.knobs import KNOBS

USUAL = 256  # new tokens of a task that names no number of them, as the harness has it
OWN = ("until", "do_sample", "max_gen_toks")


def settings_of(
    given: Mapping[str, Any], neutral: SampleConfig, context: int, end: str, where: str
) -> tuple[SampleConfig, tuple[str, ...]]:
    """The knobs of one ``generation_kwargs`` and the texts that end what is written, of which the first counts.

    Args:
      neutral: knobs of which none changes what the model would write.
      context: of the model, in tokens.
      end: how the token that ends a text is spelt.
      where: the task, for messages.

    Raises:
      UserError: a setting is unknown or out of its limits, or so many new tokens leave no room for a prompt.
    """
    usual = min(USUAL, max(1, context // 2))
    settings: dict[str, Any] = dict(normalize_gen_kwargs(dict(given), usual))
    until, drawn, most = (settings.pop(name) for name in OWN)
    for name in settings:
        if name not in KNOBS:
            raise UserError(
                f"generation_kwargs has {name!r}",
                where=where,
                allowed=", ".join((*OWN, *KNOBS)),
                fix=did_you_mean(name, KNOBS),
            )
    if not 1 <= most < context:
        raise UserError(
            f"max_gen_toks = {most} leaves no room for a prompt",
            where=where,
            allowed=f"1 to {context - 1}, of a context of {context}",
        )
    stops = tuple(text for text in handle_stop_sequences(list(until), eos=end) if text)
    temperature = settings.pop("temperature", 0.0) or 1.0 if drawn else 0.0
    own = {"max_new_tokens": most, "stop_strings": stops, "include_stop_str_in_output": True}
    values = dataclasses.asdict(neutral) | settings | own | {"temperature": float(temperature)}
    return section(SampleConfig, values, where), stops
