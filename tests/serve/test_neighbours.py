"""A request's answer is the same whatever is asked beside it, and nothing is compiled for it."""

import random
from concurrent.futures import ThreadPoolExecutor

from gpt_jax.sample.engine import continuous

CLIENTS = 50


def asked(number: int) -> dict:
    """Request ``number``, of many kinds."""
    draw = random.Random(number)
    given = {
        "model": draw.choice(["chat", "plain"]),
        "prompt": "".join(draw.choices(["the ", "cat ", "sat ", "on ", "a ", "mat"], k=draw.randint(1, 20))),
        "max_tokens": draw.randint(1, 40),
        "temperature": draw.choice([0, 0.5, 1, 1.5]),
        "top_p": draw.choice([0.5, 0.9, 1]),
        "seed": number,
        "n": draw.randint(1, 2),
        "logprobs": draw.choice([None, 0, 3]),
        "echo": draw.random() < 0.3,
        "presence_penalty": draw.choice([0, 0.7]),
        "stop": draw.choice([None, ["e"], ["the", "zz"]]),
    }
    return given | ({"extra_body": {"top_k": 5}} if draw.random() < 0.5 else {})


def test_fifty_clients_get_what_each_gets_alone(running):
    client = running.client()

    def ask(number):
        found = client.completions.create(**asked(number))
        return [choice.model_dump() for choice in found.choices], found.usage

    alone = [ask(number) for number in range(CLIENTS)]
    platform = running.engine._writers[0].batch._program.platform
    before = [program._cache_size() for program in continuous.compiled(platform)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        together = list(pool.map(ask, range(CLIENTS)))
    assert together == alone  # to the last bit of a log-probability
    assert before == [program._cache_size() for program in continuous.compiled(platform)]


def test_streams_beside_each_other_are_what_they_are_alone(running):
    client = running.client()
    messages = [{"role": "user", "content": "the cat"}]

    def ask(seed):
        given = {"model": "chat", "messages": messages, "max_tokens": 30, "seed": seed}
        return "".join(
            part.choices[0].delta.content or "" for part in client.chat.completions.create(**given, stream=True)
        )

    alone = [ask(seed) for seed in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == alone
    assert len(set(alone)) > 6
