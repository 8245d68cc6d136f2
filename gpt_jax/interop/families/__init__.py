"""The families of models that can be exchanged: one file each, a table registered under its ``model_type``."""

from collections.abc import Iterator, Mapping
from typing import Any

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.interop.family import Family

KIND = "interop.families"
TEXT_ONLY = "save its text model, a {}, alone: AutoModel.from_pretrained(…).language_model.save_pretrained(…)"


def named(model_type: str, where: str) -> Family:
    """The family of a ``model_type``.

    Raises:
      UserError: there is no such family here.
    """
    return registry.lookup(KIND, model_type, where=where)()


def of_directory(values: Mapping[str, Any], where: str) -> Family:
    """The family of a ``config.json``.

    Args:
      values, where: its contents, and its path.

    Raises:
      UserError: there is no such family here.
    """
    found, known = str(values.get("model_type")), registry.names(KIND)
    if found in known:
        return named(found, where)
    text = values.get("text_config")
    inner = text.get("model_type") if isinstance(text, dict) else None
    # Names that are near are of other models (mixtral, gemma3): only another spelling is suggested.
    same = next((name for name in known if _letters(name) == _letters(found)), "")
    raise UserError(
        f"models of type {found!r} cannot be imported: there is no such family here"
        if "model_type" in values
        else "model_type is missing, which says what the model is",
        where=f"{where}: model_type",
        allowed=", ".join(known),
        fix=f"did you mean {same!r}?" if same else TEXT_ONLY.format(inner) if inner in known else "",
    )


def every() -> Iterator[Family]:
    for name in registry.names(KIND):
        yield named(name, "")


def that_says(model: ModelConfig, first: str) -> Family:
    """The first family whose ``config.json`` can say a model: ``first`` if it can, then by name.

    Raises:
      UserError: none can; the message has every family's reason.
    """
    reasons = []
    for family in sorted(every(), key=lambda family: family.name != first):
        try:
            family.settings(model)
            return family
        except UserError as error:
            reasons.append(f"{family.name}: {error.where.replace('config.', '').removeprefix(f'{family.name}: ')}")
    raise UserError(
        "no family of Hugging Face models can express this one",
        where="; ".join(reasons),
        fix="docs/interop.md has what each can; --family shows what stands in the way of one",
    )


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()
