"""The samplers that a study compares, each described by plain knobs and calls of processors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from gpt_jax import limits
from gpt_jax.config import SampleConfig
from gpt_jax.data.tokenizers import writable
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.sample import knobs
from gpt_jax.sample.decode import Sampling
from gpt_jax.sample.processors import Vocabulary

SHAPE = '{"NAME": {"temperature": 0.8, "top_p": 0.9, "processors": ["mirostat(tau=3.0)"]}, …}'
TEMPERATURES = (0.5, 0.75, 1.0)
MASSES = (0.8, 0.95, 1.0)  # of top-p
OTHERS: dict[str, dict[str, Any]] = {
    "top-k 10": {"top_k": 10},
    "top-k 40": {"top_k": 40},
    "min-p 0.05": {"min_p": 0.05},
    "typical 0.9": {"typical_p": 0.9},
}
GREEDY, PURE = "greedy", "pure sampling"
HUMAN = "human"  # not a sampler: the held-out text


@dataclass(frozen=True)
class Sampler:
    """A way to draw tokens.

    Args:
      knobs: those of ``gpt_jax.sample.knobs.sampling``, "processors" and "order" among them.
    """

    name: str
    knobs: Mapping[str, Any]

    def sampling(self, given: Vocabulary) -> Sampling:
        """
        Raises:
          UserError: a knob or a processor is unknown, or has a value out of its limits.
        """
        try:
            return knobs.sampling(given, **self.knobs)
        except UserError as error:
            raise UserError(
                f"{self.name}: {error.what}", where=error.where, allowed=error.allowed, fix=error.fix
            ) from None


def default() -> tuple[Sampler, ...]:
    """Greedy decoding, temperatures crossed with top-p, and the other usual cut-offs."""
    crossed = [Sampler(_name(t, p), {"temperature": t, "top_p": p}) for t in TEMPERATURES for p in MASSES]
    return (Sampler(GREEDY, {"temperature": 0}), *crossed, *(Sampler(name, given) for name, given in OTHERS.items()))


def read(path: Path) -> tuple[Sampler, ...]:
    """The samplers of a JSON file: an object of knobs by name.

    Raises:
      UserError: it cannot be read, or holds something else.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refused)
        entries = [(writable(name), dict(values)) for name, values in found.items()]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}", where="--grid", allowed=SHAPE) from None
    except (AttributeError, TypeError):
        entries = []
    if not entries:
        raise UserError(f"{path} holds no samplers", where="--grid", allowed=SHAPE)
    if HUMAN in dict(entries):
        raise UserError(f"{HUMAN!r} is the name of the held-out text", where="--grid", fix="choose another name")
    return tuple(Sampler(name, _checked(values, f"{path}: {name}")) for name, values in entries)


def _checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Knobs as ``config.sample`` has them."""
    known = get_type_hints(SampleConfig, include_extras=True)
    own = {name: known[name] for name in (*knobs.KNOBS, "processors", "order")}
    for knob in values:
        if knob not in own:
            raise UserError(
                f"there is no knob {knob!r}", where=where, allowed=", ".join(own), fix=did_you_mean(knob, own)
            )
    return {knob: limits.checked(value, own[knob], f"{where}.{knob}") for knob, value in values.items()}


def _name(t: float, p: float) -> str:
    parts = [f"temperature {t:g}"] * (t != 1) + [f"top-p {p:g}"] * (p != 1)
    return ", ".join(parts) or PURE


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")
