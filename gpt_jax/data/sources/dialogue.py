"""Dialogues of a few turns: facts, small talk, corrections, and at the end a question about an earlier turn."""

from typing import Annotated, Any

from gpt_jax.config import Config
from gpt_jax.data.examples import Examples, Row
from gpt_jax.data.rows.generated import Amount, Draw, generated
from gpt_jax.data.templates import ASSISTANT, USER, Message
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Seed, Share
from gpt_jax.registry import register

NAMES = ("Tom", "Max", "Ann", "Leo", "Eva", "Sam", "Ida", "Ben", "Kim", "Joe", "Amy", "Dan", "Meg", "Roy", "Liz", "Ted")
COLOURS = ("red", "blue", "green", "white", "black", "brown", "grey", "pink")
CITIES = ("Rome", "Paris", "Oslo", "Lima", "Cairo", "Bern", "Delhi", "Tokyo", "Quito", "Riga")
FOODS = ("rice", "soup", "bread", "fish", "cake", "pasta", "salad", "cheese")
# What a fact is about -> (the values, what is said, the answer to it and to the question, the question).
FACTS: dict[str, tuple[tuple[str, ...], str, str, str]] = {
    "cat": (NAMES, "My cat is called {}.", "Your cat is called {}.", "What is my cat called?"),
    "dog": (NAMES, "My dog is called {}.", "Your dog is called {}.", "What is my dog called?"),
    "name": (NAMES, "My name is {}.", "Your name is {}.", "What is my name?"),
    "car": (COLOURS, "My car is {}.", "Your car is {}.", "Which colour is my car?"),
    "house": (COLOURS, "My house is {}.", "Your house is {}.", "Which colour is my house?"),
    "city": (CITIES, "I live in {}.", "You live in {}.", "Where do I live?"),
    "birth": (CITIES, "I was born in {}.", "You were born in {}.", "Where was I born?"),
    "food": (FOODS, "I like {} best.", "You like {} best.", "What do I like best?"),
}
TALK = (
    ("How are you?", "I am well, thank you."),
    ("Hello!", "Hello to you."),
    ("Nice weather today.", "Yes, it is nice."),
    ("Are you a robot?", "I am a program."),
    ("Thank you.", "You are welcome."),
    ("Tell me something.", "Water is wet."),
    ("I am tired.", "Then have some rest."),
    ("Can you help me?", "I will try."),
)


@register("data.sources", "dialogue", examples=("dialogue(count=200, valid=50)",))
def dialogue(
    config: Config,
    *,
    count: Amount = 20_000,
    valid: Amount = 500,
    least: Annotated[int, Limits(2, 8)] = 2,
    most: Annotated[int, Limits(2, 8)] = 6,
    corrections: Share = 0.3,
    seed: Seed = 0,
) -> Examples:
    """{messages, distance, corrected}: ``least`` to ``most`` turns of either side. All answers follow from what was said.

    ``distance`` is the number of turns between the question and the fact it asks for, 1 being the turn before; the last
    statement of a fact counts. Whole dialogues are held out.

    Args:
      corrections: share of the dialogues of three turns or more in which the fact is corrected before the question.
    """
    if least > most:
        raise UserError(f"dialogue(least={least}, most={most}): no number is both", where="config.data.source")

    def make(draw: Draw, held: bool) -> tuple[str, Row]:
        row = _row(draw, draw.between(least, most), corrections)
        return repr(row["messages"]), row

    return generated(config, make, "dialogue", least, most, corrections, count=count, valid=valid, seed=seed)


def _row(draw: Draw, turns: int, corrections: float) -> dict[str, Any]:
    asked, *others = draw.some(tuple(FACTS), len(FACTS))
    values, _, answer, question = FACTS[asked]
    corrected = turns > 2 and draw.chance(corrections)
    places = sorted(draw.some(range(turns - 1), 1 + corrected))
    small_talk = draw.some(TALK, len(TALK))
    said, value = [], ""
    for turn in range(turns - 1):
        if turn in places:
            new = draw.one([other for other in values if other != value])
            statement = FACTS[asked][1].format(new)
            said.append((f"No, I was wrong. {statement}" if value else statement, answer.format(new)))
            value = new
        elif others and draw.chance(0.5):
            said.append(_fact(draw, others.pop()))
        else:
            said.append(small_talk.pop())
    said.append((question, answer.format(value)))
    return {"messages": _messages(said), "distance": turns - 1 - places[-1], "corrected": corrected}


def _fact(draw: Draw, about: str) -> tuple[str, str]:
    values, statement, answer, _ = FACTS[about]
    value = draw.one(values)
    return statement.format(value), answer.format(value)


def _messages(said: list[tuple[str, str]]) -> list[Message]:
    return [
        {"role": role, "content": content}
        for turn in said
        for role, content in zip((USER, ASSISTANT), turn, strict=True)
    ]
