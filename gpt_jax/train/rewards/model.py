"""The score that a reward model gives: a run that was trained with tune.objective = reward."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt_jax.config import Config
from gpt_jax.data.rendering import template_of, with_tokens
from gpt_jax.errors import UserError
from gpt_jax.registry import register
from gpt_jax.run_directory import read_tokenizer
from gpt_jax.train import scoring
from gpt_jax.train.objectives import reward as objectives
from gpt_jax.train.rewards import WHERE, Completion, Reward
from gpt_jax.train.run import open_to_read
from gpt_jax.train.starting import places, start
from gpt_jax.train.starting.fixed_models import Held, Pin
from gpt_jax.train.step import objective_of


@dataclass(frozen=True)
class Scores:
    """See ``Reward`` and ``ReadsRun``."""

    head: scoring.Head
    held: Held

    def __call__(self, completions: Sequence[Completion]) -> list[float | None]:
        return self.head.rewards([(completion.row["prompt"], completion.text) for completion in completions])


@register("train.rewards", "model")
def model(config: Config, pin: Pin, *, run: str) -> Reward:
    """The score of each completion after its prompt, as the run's own template and tokenizer write them; None where both
    together do not fit into its context.

    Args:
      run: its directory, such as runs/rm; with runs/rm@500 that step of it, else the newest when training begins.

    Raises:
      UserError: there is no such run or step, it was trained with another objective, or it is not the one that training
        began with.
      StorageError: it is damaged.
    """
    try:
        place = places.find(pin.named(run))
    except UserError as error:
        allowed = "a run, such as runs/rm or runs/rm@500"
        raise UserError(error.what, where=WHERE, allowed=allowed, fix=error.fix) from None
    if place.pretrained:
        raise UserError(f"{run} is a directory of Hugging Face's, which has no head that scores texts", where=WHERE)
    settings = places.stored(place.path, config.to_dict())
    if not isinstance(objective_of(settings), objectives.Reward):
        raise UserError(
            f"{run} was trained with tune.objective = {settings.tune.objective}, and scores nothing",
            where=WHERE,
            allowed="a run with tune.objective = reward",
            fix="gpt-jax train --config=tune:reward trains one",
        )
    tokenizer = read_tokenizer(place.path)
    tokenizer = tokenizer and with_tokens(tokenizer, template_of(settings))
    head = scoring.head_of(open_to_read(settings, place.path), place.step, tokenizer)
    return Scores(head, pin.held(run, head.step, start.digest_of(place.path, head.step)))
