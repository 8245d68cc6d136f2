"""What is to be written: every prompt as often as it is asked for, each time with its own settings, length and seed."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from gpt_jax.config import ModelConfig, SampleConfig
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.limits import folded, section
from gpt_jax.sample.engine.context import REFUSE
from gpt_jax.sample.knobs import KNOBS, negative_tokens
from gpt_jax.sample.processors import Tokenizer, Vocabulary
from gpt_jax.sample.prompts import Prompt, length
from gpt_jax.sample.searches.chosen import chosen

# Knobs that a line of a file of prompts may set for itself; what the rows of a batch share is no line's.
OF_A_LINE = (
    *KNOBS,
    *("processors", "order", "guidance_scale", "negative_prompt", "seed", "max_new_tokens", "num_return_sequences"),
    *("stop_strings", "include_stop_str_in_output", "stop_token_ids", "ignore_eos"),
)
# Knobs that searches do not follow, and their values where they are off.
NOT_SEARCHED = {
    **{"guidance_scale": 1.0, "logprobs": 0, "cache": "model", "beyond_context": REFUSE},
    **{"draft": "", "draft_layers": 0, "prompt_lookup_num_tokens": 0},
}
SHORT = {"n": "num_return_sequences"}
# Apart from each other by 2^32 over the golden ratio, the seeds of samples stay far from those of other prompts: no two
# of up to 2^30 are equal (Knuth, The Art of Computer Programming, volume 3, section 6.4).
APART = 2654435769


@dataclass(frozen=True)
class Request:
    """One text to be written.

    Args:
      number: of the prompt, from 0.
      copy: of the prompt's samples, from 0.
      sample: the settings that hold for it.
      length: new tokens at most.
      seed: of 32 bits.
    """

    prompt: Prompt
    number: int
    copy: int
    sample: SampleConfig
    length: int
    seed: int


def requests(
    prompts: Sequence[Prompt], model: ModelConfig, sample: SampleConfig, exact: bool, tokenizer: Tokenizer | None
) -> list[Request]:
    """The texts to be written, prompt by prompt. Sample j of prompt i has the seed ``sample.seed`` + i + j * ``APART``; a
    prompt with a seed of its own has that in place of the first two.

    Args:
      exact: see ``length``; a prompt's own ``max_new_tokens`` always has to fit.

    Raises:
      UserError: a prompt's settings are not in order, or the model cannot continue it.
    """
    found = []
    for number, prompt in enumerate(prompts):
        settings = settings_of(prompt, sample)
        check(settings, model, prompt.where if prompt.own else "")
        if settings.prompt_logprobs and len(prompt.ids) > model.context + 1:
            raise UserError(
                f"prompt_logprobs of a prompt of {len(prompt.ids)} tokens",
                where=f"{prompt.where}, config.sample.prompt_logprobs",
                allowed=f"up to {model.context + 1} tokens, the context and one more",
                fix="launch.py eval --text=FILE and Model.read have those of longer texts",
            )
        asked_for = exact or "max_new_tokens" in prompt.own
        negative = negative_tokens(settings, Vocabulary(model.vocab, tokenizer))
        new = length(prompt, model, settings.max_new_tokens, asked_for, tokenizer, settings.beyond_context, negative)
        first = folded(settings.seed) + (0 if "seed" in prompt.own else number)
        copies = settings.num_return_sequences if chosen(settings) is None else 1  # a search finds all of a prompt's
        seeds = [(first + copy * APART) % 2**32 for copy in range(copies)]
        found += [Request(prompt, number, copy, settings, new, seed) for copy, seed in enumerate(seeds)]
    return found


def settings_of(prompt: Prompt, sample: SampleConfig) -> SampleConfig:
    """``sample`` with the prompt's own knobs.

    Raises:
      UserError: it has an unknown one, or a value that is not allowed.
    """
    own = {}
    for given, value in prompt.own.items():
        name = SHORT.get(given, given)
        if name not in OF_A_LINE or name in own:
            known = (*SHORT, *OF_A_LINE)
            raise UserError(
                f"{given!r} is there twice" if name in own else f"there is no knob {given!r} for a single prompt",
                where=prompt.where,
                allowed=f"prompt or ids, and {', '.join(known)}",
                fix=did_you_mean(given, known),
            )
        own[name] = value
    return section(SampleConfig, dataclasses.asdict(sample) | own, prompt.where) if own else sample


def check(sample: SampleConfig, model: ModelConfig, where: str) -> None:
    """Raises UserError for settings that contradict each other, or do not fit the model."""

    def place(*names: str) -> str:
        return ", ".join(f"{where}: {name}" if where else f"config.sample.{name}" for name in names)

    try:
        searching = chosen(sample) is not None
    except UserError as error:
        knobs = error.where.replace("config.sample.", "").split(", ")
        raise UserError(error.what, where=place(*knobs), allowed=error.allowed, fix=error.fix) from None
    for knob, off in NOT_SEARCHED.items():
        if searching and getattr(sample, knob) != off:
            raise UserError(f"a search has no {knob}", where=place(knob), fix=f"--sample.{knob}={off!r}")
    outside = [i for i in sample.stop_token_ids if not 0 <= i < model.vocab]
    if outside:
        raise UserError(
            f"token id {outside[0]} is outside the vocabulary",
            where=place("stop_token_ids"),
            allowed=f"0 to {model.vocab - 1}",
        )
    if sample.logprobs > model.vocab:
        raise UserError(
            f"logprobs = {sample.logprobs} is more than there are tokens",
            where=place("logprobs"),
            allowed=f"0 to {model.vocab}",
        )
