"""A family of Hugging Face models: the table by which its directories are read and written."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from gpt_jax import limits
from gpt_jax.config import Config, ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.interop.compare import difference
from gpt_jax.interop.fields import Field
from gpt_jax.interop.rows import Row
from gpt_jax.interop.settings import Settings

PLAIN = "normal"  # a parametrisation without factors: theirs have none


@dataclasses.dataclass(frozen=True)
class Family:
    """One ``model_type``.

    Args:
      name: the ``model_type``.
      architecture: the class in ``transformers`` that has these tensors.
      fields: how ``config.json`` maps to knobs, in the order they are read.
      rows: how tensors map to parameters.
      prefix: in front of all names but the readout's; directories of the model without its head leave it out.
      inert: settings without effect on the logits, besides those of every family.
      buffers: a regex of tensors that are computed, not trained.
    """

    name: str
    architecture: str
    fields: tuple[Field, ...]
    rows: tuple[Row, ...]
    prefix: str
    inert: tuple[str, ...] = ()
    buffers: str = r"$^"

    def knobs(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The knobs of ``config.model`` that a ``config.json`` sets.

        Raises:
          UserError: a setting is missing, or has no counterpart here.
        """
        given = Settings(dict(values), where)
        knobs: dict[str, Any] = {}
        layers = typing.get_type_hints(ModelConfig, include_extras=True)["layers"]
        try:
            for field in self.fields:
                field.read(given, knobs)
                if "layers" in knobs:  # before a list of them is made
                    limits.checked(knobs["layers"], layers, f"{where}: layers")
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            raise UserError(f"a setting is not of the type it should be: {error}", where=where) from error
        given.finish(self.inert)
        return knobs

    def settings(self, model: ModelConfig) -> tuple[dict[str, Any], ModelConfig]:
        """The ``config.json`` of a model, and the model it says: the same, but perhaps with more biases.

        Raises:
          UserError: this family cannot say it; the message names the knob.
        """
        values: dict[str, Any] = {"model_type": self.name, "architectures": [self.architecture]}
        for field in self.fields:
            field.write(model, values)
        said = dataclasses.replace(model, init=PLAIN, **self.knobs(values, self.name))
        knob = difference(model, said)
        if knob:
            raise UserError(
                f"model.{knob} = {getattr(model, knob)!r} cannot be said in a config.json of {self.name}",
                where=f"config.model.{knob}",
                allowed=f"what {self.name} would make of it: {getattr(said, knob)!r}",
            )
        return values, said

    def config(self, values: Mapping[str, Any], where: str, others: Mapping[str, Any]) -> Config:
        """The configuration of a run of a directory's model.

        Args:
          values, where: the contents of its ``config.json``, and that file's path.
          others: a complete configuration, whose knobs hold where the directory says nothing.

        Raises:
          UserError: a setting is missing, or says what cannot be.
        """
        try:
            knobs = self.knobs(values, where)
            return Config.from_dict({**others, "model": {**others["model"], **knobs}})
        except UserError as error:
            if error.where:
                raise
            raise UserError(error.what, where=where, allowed=error.allowed, fix=error.fix) from error
