"""From the history of a conversation to a prompt that fits: whole turns are left out at its front."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from gpt_jax.config import Config, ModelConfig, SampleConfig
from gpt_jax.data.rendering import Writer, dialogue, template_of
from gpt_jax.data.templates import SYSTEM, USER, Message
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.errors import UserError
from gpt_jax.sample.prompts import Prompt, prompt_of

SHARE = 4  # a context that is full leaves an answer of no fixed length 1 / SHARE of it
TRAIN = "launch.py train --config=dialogue --config.tune.start=RUN --workdir=NEW"
IMPORT = "launch.py import --from=HF_DIR --workdir=NEW --data.template=chatml"


@dataclass(frozen=True)
class Fitted:
    """A prompt that an answer is to follow, and how many turns were left out to make it fit."""

    prompt: Prompt
    left_out: int


def fit(messages: Sequence[Message], writer: Writer, most: int, where: str = "the conversation") -> Fitted:
    """As many whole turns as fit into ``most`` ids, the newest ones, after the system's message. The last turn stays in any
    case: whether it can be answered is checked where every prompt is.

    Args:
      messages: of which the last is to be answered.
      most: ids of the prompt, with all that the template writes.
      where: of error messages.

    Raises:
      UserError: the messages are none that the template can write.
    """
    system, turns = parts(messages)

    def prompt(left_out: int) -> Prompt:
        kept = [message for turn in turns[left_out:] for message in turn]
        return prompt_of([*system, *kept], where, writer.tokenizer, writer)

    whole = prompt(0)  # whatever is wrong with a message is said, however long they are
    if len(whole.ids) <= most or len(turns) < 2:
        return Fitted(whole, 0)
    last = len(turns) - 1
    left_out = bisect.bisect_left(range(last), True, 1, key=lambda n: len(prompt(n).ids) <= most)
    return Fitted(prompt(left_out), left_out)


def parts(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The system's messages that a conversation begins with, and its turns: a message of the user and what follows it."""
    first = next((i for i, message in enumerate(messages) if message["role"] != SYSTEM), len(messages))
    turns: list[list[Message]] = []
    for message in messages[first:]:
        if message["role"] == USER or not turns:
            turns.append([])
        turns[-1].append(message)
    return list(messages[:first]), turns


def room(model: ModelConfig, sample: SampleConfig, exact: bool) -> int:
    """How many ids a prompt may have: the context, less what is kept free for the answer.

    Args:
      exact: whether ``sample.max_new_tokens`` was asked for, so that all of it is kept free.
    """
    wanted = sample.max_new_tokens
    return model.context - (wanted if exact else min(wanted, model.context // SHARE))


def remembers(writer: Writer) -> bool:
    """Whether the template has a place for earlier turns."""
    try:
        writer.pieces(dialogue("a question", "an answer") + dialogue("another"), True, "")
    except UserError:
        return False
    return True


def writer_of(config: Config, tokenizer: Tokenizer | None, where: str) -> Writer:
    """What writes the run's dialogues.

    Raises:
      UserError: see ``require_template``; or the run has no tokenizer.
    """
    require_template(config, where)
    if tokenizer is None:
        raise UserError("this run's data has no tokenizer, so it cannot be talked to", where=where)
    return Writer(template_of(config), tokenizer)


def require_template(config: Config, where: str) -> None:
    """Raises UserError for a run whose template does not say who speaks."""
    if not template_of(config).dialogues:
        raise UserError(
            f"this run has no template for dialogues: data.template = {config.data.template}",
            where=where,
            fix=f"tune it on dialogues: {TRAIN}; a model of Hugging Face gets a template when it is imported: {IMPORT}",
        )
