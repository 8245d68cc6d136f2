"""Prompts that the model itself answers, with the fields of their rows, which rewards read."""

from gpt_jax.data.forms import Form, Made, Side, require
from gpt_jax.data.prompt_windows import PromptWindows
from gpt_jax.data.rendering import dialogue
from gpt_jax.errors import UserError
from gpt_jax.registry import register


@register("data.forms", "prompts")
def prompts() -> Form:
    """A prompt a row, as it is written before an answer; one that leaves no room for an answer is left out."""
    return _windows


def _windows(side: Side) -> Made:
    asked = [dialogue(*require(row, side.place(i), "prompt")) for i, row in enumerate(side.rows)]
    encoded = side.writer.write(asked, answer=True, place=side.place)
    kept = [i for i, found in enumerate(encoded) if len(found.ids) < side.context]
    if not kept:
        raise UserError(
            f"none of the {len(side.rows)} prompts leaves room for an answer in model.context = {side.context} tokens",
            where="config.model.context",
            fix="raise model.context, or give shorter prompts",
        )
    windows = PromptWindows([encoded[i].ids for i in kept], [side.rows[i] for i in kept])
    return Made(windows, len(encoded) - len(kept))
