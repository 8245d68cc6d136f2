"""JSON texts that are valid for a schema."""

import json
from typing import Any

from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.sample.constraints import automata
from gpt_jax.sample.processors import Processor, Vocabulary
from gpt_jax.storage import local_path

WHERE = "json_schema"


@register("sample.processors", "json_schema", typical="json_schema(path='FILE.json')", reads=("*.json",))
def json_schema(given: Vocabulary, *, schema: dict | None = None, path: str = "") -> Processor:
    """What is written after the prompt is JSON that is valid for a schema, as far as outlines-core turns it into a
    pattern (Willard and Louf 2023).

    Args:
      schema: as a dict; or
      path: of a file with it.

    Raises:
      UserError: the schema cannot be read or turned into a pattern, or as ``automata.of_regex``.
    """
    if (schema is None) == (not path):
        raise UserError("a schema is needed", where=WHERE, allowed="schema={…} or path='FILE.json'")
    pattern = pattern_of(_read(path) if schema is None else schema)
    return Processor(change, automata.of_regex(given, pattern, WHERE).knobs(), advance=advance, ends=ends)


def pattern_of(schema: Any) -> str:
    """The pattern of the JSON texts that are valid for a schema."""
    library = automata.imported(WHERE)
    try:
        return library.json_schema.build_regex_from_schema(json.dumps(schema))
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"the schema cannot be used: {error}", where=WHERE) from None


def _read(path: str) -> Any:
    file = local_path(path, WHERE)
    try:
        return json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", where=WHERE) from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}", where=WHERE) from None


def change(logits_BV, step, next_BQC, class_BV, left_BQ, state_B):
    return automata.allowed(logits_BV, step, next_BQC, class_BV, left_BQ, state_B)


def advance(logits_BV, tokens_B, step, next_BQC, class_BV, left_BQ, state_B):
    return automata.moved(tokens_B, next_BQC, class_BV, state_B)


def ends(step, next_BQC, class_BV, left_BQ, state_B):
    return automata.over(step, next_BQC, left_BQ, state_B)
