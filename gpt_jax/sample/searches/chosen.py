"""Which search the knobs of ``config.sample`` ask for, and which knobs contradict each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpt_jax.config import SampleConfig
from gpt_jax.errors import UserError
from gpt_jax.sample.searches import Rank, Search
from gpt_jax.sample.searches.beam import Beam
from gpt_jax.sample.searches.best_of import BestOf, mean_logprob
from gpt_jax.sample.searches.contrastive import Contrastive
from gpt_jax.sample.searches.exact import Exact


@dataclass(frozen=True)
class Choice:
    """A search.

    Args:
      off: the value at which its knob does not ask for it.
      build: of the settings and of what texts are ranked by, where that is given.
      own: further knobs that only this search reads, with their values where they do nothing.
      greedy: whether it needs ``temperature`` = 0, or another one; None: either.
      most: the knob that says how many texts a prompt there are at most; "" if there is one.
      cuts: whether a text that ends at a stop string is as good as its score says; where others are kept or left out by
        what follows it, it is not.
    """

    off: Any
    build: Callable[[SampleConfig, Rank | None], Search]
    own: Mapping[str, Any] = field(default_factory=dict)
    greedy: bool | None = None
    most: str = ""
    cuts: bool = False


def _beam(sample: SampleConfig, rank: Rank | None) -> Search:
    groups, diversity = sample.num_beam_groups, sample.diversity_penalty
    if sample.num_beams % groups:
        raise _refused(f"{sample.num_beams} beams do not divide into {groups} groups", "num_beams", "num_beam_groups")
    if (groups > 1) != (diversity > 0):
        what = f"diversity_penalty = {diversity:g} with num_beam_groups = {groups}: groups differ by that penalty"
        raise _refused(what, "num_beam_groups", "diversity_penalty", fix="set both, or none")
    if groups > 1 and sample.temperature > 0:
        raise _refused("groups of beams do not draw", "num_beam_groups", "temperature", fix="--sample.temperature=0")
    if sample.early_stopping not in (False, True, "never"):
        raise UserError(
            f"early_stopping = {sample.early_stopping!r} is no mode",
            where="config.sample.early_stopping",
            allowed='false, true, "never"',
        )
    return Beam(
        sample.num_beams,
        sample.num_return_sequences,
        groups,
        diversity,
        sample.length_penalty,
        sample.early_stopping,
    )


def _contrastive(sample: SampleConfig, rank: Rank | None) -> Search:
    if sample.top_k < 2:
        what = f"contrastive search chooses among top_k tokens, and sample.top_k = {sample.top_k}"
        raise _refused(what, "penalty_alpha", "top_k", fix="--sample.top_k=4")
    return Contrastive(sample.penalty_alpha, sample.top_k)


def _best_of(sample: SampleConfig, rank: Rank | None) -> Search:
    return BestOf(sample.best_of, sample.num_return_sequences, rank or mean_logprob, sample.rows)


def _exact(sample: SampleConfig, rank: Rank | None) -> Search:
    return Exact(sample.exact_nodes)


# Searches by the knobs that ask for them.
CHOICES: dict[str, Choice] = {
    "num_beams": Choice(
        1,
        _beam,
        {"num_beam_groups": 1, "diversity_penalty": 0.0, "length_penalty": 1.0, "early_stopping": False},
        most="num_beams",
    ),
    "penalty_alpha": Choice(0.0, _contrastive, greedy=True, cuts=True),
    "best_of": Choice(1, _best_of, greedy=False, most="best_of", cuts=True),
    "exact_nodes": Choice(0, _exact, greedy=True),
}


def chosen(sample: SampleConfig, rank: Rank | None = None) -> Search | None:
    """The search that is asked for; None where a text is written token by token.

    Args:
      rank: what best-of-n keeps texts by; None: the model's own mean log-probability.

    Raises:
      UserError: knobs contradict each other.
    """
    names = [name for name, choice in CHOICES.items() if getattr(sample, name) != choice.off]
    if len(names) > 1:
        raise _refused(f"{' and '.join(names)} ask for searches that exclude each other", *names, fix="set one of them")
    for name, choice in CHOICES.items():
        idle = [own for own, off in choice.own.items() if getattr(sample, own) != off and name not in names]
        if idle:
            raise _refused(f"{idle[0]} = {getattr(sample, idle[0])!r} does nothing without {name}", idle[0], name)
    if rank is not None and names != ["best_of"]:
        raise _refused("a score of texts needs several of them to choose from", "best_of", fix="best_of=8")
    if sample.stop_strings and names and not CHOICES[names[0]].cuts:
        what = f"the search of {names[0]} compares whole texts, and does not end them at stop strings"
        raise _refused(what, names[0], "stop_strings", fix="give ids, stop_token_ids; or search by best_of")
    _check_returned(sample, names)
    return CHOICES[names[0]].build(sample, rank) if names else None


def _check_returned(sample: SampleConfig, names: list[str]) -> None:
    """Whether there can be as many texts as are to be returned, and whether they can differ."""
    wanted, drawn = sample.num_return_sequences, sample.temperature > 0
    if not names:
        if wanted > 1 and not drawn:
            what = f"{wanted} greedy texts of a prompt are the same"
            raise _refused(what, "num_return_sequences", "temperature", fix="a temperature above 0, or num_beams")
        return
    choice = CHOICES[names[0]]
    most = getattr(sample, choice.most) if choice.most else 1
    if wanted > most:
        raise _refused(
            f"num_return_sequences = {wanted} is more than the {most} that there are",
            "num_return_sequences",
            names[0],
            fix=f"--sample.{choice.most}={wanted}" if choice.most else "--sample.num_return_sequences=1",
        )
    if choice.greedy is not None and choice.greedy == drawn:
        how = "draws nothing" if choice.greedy else "draws its texts"
        fix = "--sample.temperature=0" if choice.greedy else "a temperature above 0"
        raise _refused(f"the search of {names[0]} {how}", names[0], "temperature", fix=fix)


def _refused(what: str, *knobs: str, fix: str = "") -> UserError:
    return UserError(what, where=", ".join(f"config.sample.{knob}" for knob in dict.fromkeys(knobs)), fix=fix)
