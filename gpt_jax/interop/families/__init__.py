"""The families of models that can be exchanged: one file each, a table registered under its ``model_type``."""

from collections.abc import Iterator

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.interop.family import Family

KIND = "interop.families"


def named(model_type: str, where: str) -> Family:
    """The family of a ``model_type``.

    Raises:
      UserError: there is no such family here.
    """
    return registry.lookup(KIND, model_type, where=where)()


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
