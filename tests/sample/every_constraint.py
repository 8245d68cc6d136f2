"""Processors that constrain words beside transformers' and beside what they say, written out in Python, in random cases.

All cases are rows of one batch, so that words of other numbers and lengths stand beside each. The suite has 40 of each;
``python -m tests.sample.every_constraint`` tries 300.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.sample.decode import Sampling
from gpt_jax.sample.engine import chain
from gpt_jax.sample.knobs import sampling
from gpt_jax.sample.processors import Step, Vocabulary

VOCAB, LENGTH, STOPS = 12, 20, (3, 7)  # few tokens, so that words often occur
GIVEN = Vocabulary(VOCAB, None, STOPS)
CASES = 300


def scores(random, rows: int) -> np.ndarray:
    """Logits with ties, some of them already removed; never all."""
    values = random.integers(-8, 8, (rows, VOCAB)).astype(np.float32) / 2
    values[random.random((rows, VOCAB)) < 0.1] = -np.inf
    values[np.arange(rows), random.integers(VOCAB, size=rows)] = 1.5
    return values


def step(random, rows: int) -> Step:
    """Texts of 1 to ``LENGTH`` tokens, some of each the prompt, with room for some more."""
    tokens = random.integers(VOCAB, size=(rows, LENGTH), dtype=np.int32)
    length = random.integers(1, LENGTH + 1, rows, dtype=np.int32)
    prompt = np.minimum(random.integers(1, LENGTH + 1, rows, dtype=np.int32), length)
    limit = length - prompt + random.integers(1, 12, rows, dtype=np.int32)
    stops = np.tile(np.array(STOPS, np.int32), (rows, 1))
    arrays = [jnp.asarray(a) for a in (tokens, length, prompt, limit, stops)]
    return Step(*arrays, jax.random.split(jax.random.key(0), rows))


def text(step: Step, row: int) -> list[int]:
    return np.asarray(step.tokens_BS)[row, : int(step.length_B[row])].tolist()


def written(step: Step, row: int) -> list[int]:
    return text(step, row)[int(step.prompt_B[row]) :]


def processed(samplings: list[Sampling], scores_BV, step: Step) -> np.ndarray:
    links, knobs = chain.join([row.applied for row in samplings])
    return np.asarray(_processed(links, knobs, scores_BV, step))


@functools.partial(jax.jit, static_argnums=0)
def _processed(links, knobs, scores_BV, step):
    return chain.process(links, knobs, scores_BV, step, skips=False)


def word_list(random, text: list[int], most: int = 4, longest: int = 4) -> list[tuple[int, ...]]:
    """Different words, single tokens among them; half of the others begin with what the text ends with."""
    found = []
    for _ in range(random.integers(1, most + 1)):
        ids = random.integers(VOCAB, size=random.integers(1, longest + 1)).tolist()
        tail = text[-random.integers(1, longest) :]
        found.append(tuple(ids) if random.random() < 0.5 else (*tail, ids[0]))
    return list(dict.fromkeys(found))


def peer(processor, tokens: list[int], scores_V: np.ndarray) -> np.ndarray:
    import torch

    return processor(torch.tensor([tokens]), torch.tensor(scores_V[None]))[0].numpy()


def bias_case(random, text):
    from transformers import SequenceBiasLogitsProcessor

    words = [(word, float(random.normal())) for word in word_list(random, text)]
    return {"logit_bias": words}, SequenceBiasLogitsProcessor([[list(word), number] for word, number in words])


def bad_words_case(random, text):
    from transformers import NoBadWordsLogitsProcessor

    words = [(5, 2), *word_list(random, text)]
    return {"bad_words": words}, NoBadWordsLogitsProcessor([list(word) for word in words], eos_token_id=list(STOPS))


def suppress_case(random, text):
    from transformers import SuppressTokensLogitsProcessor

    ids = random.choice(VOCAB, size=random.integers(1, 5), replace=False).tolist()
    return {"suppress_tokens": ids}, SuppressTokensLogitsProcessor(ids)


PEERS = {"bias": bias_case, "bad_words": bad_words_case, "suppress": suppress_case}


def check_peer(name: str, cases: int, seed: int = 0) -> None:
    """Same masks, and scores within 1e-6."""
    random = np.random.default_rng(seed)
    logits, at = scores(random, cases), step(random, cases)
    made = [PEERS[name](random, text(at, row)) for row in range(cases)]
    got = processed([sampling(GIVEN, **knobs) for knobs, _ in made], logits, at)
    expected = np.stack([peer(processor, text(at, row), logits[row]) for row, (_, processor) in enumerate(made)])
    np.testing.assert_array_equal(np.isneginf(got), np.isneginf(expected))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.any(got != logits)


def check_allowed(cases: int, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    logits, at = scores(random, cases), step(random, cases)
    lists = [word_list(random, text(at, row)) for row in range(cases)]
    got = processed([sampling(GIVEN, allowed_words=words) for words in lists], logits, at)
    for row, words in enumerate(lists):
        kept = np.isin(np.arange(VOCAB), [*STOPS, *(i for word in words for i in word)])
        np.testing.assert_array_equal(got[row], np.where(kept, logits[row], -np.inf))


def forced_by_hand(words: list[tuple[int, ...]], new: list[int], room: int, logits: np.ndarray) -> np.ndarray:
    """What ``forced_words`` says of itself: words of one form each."""
    missing = [w for w in words if not any(tuple(new[i : i + len(w)]) == w for i in range(len(new)))]
    if not missing:
        return logits
    whole = sum(map(len, missing))
    if whole <= room - 1:
        return np.where(np.isin(np.arange(VOCAB), STOPS), -np.inf, logits)
    begun = [max(k for k in range(len(w)) if k == 0 or tuple(new[-k:]) == w[:k]) for w in missing]
    left = [len(w) - k for w, k in zip(missing, begun, strict=True)]
    totals = [whole - k for k in begun]
    first = totals.index(min(totals))
    only = missing[first][len(missing[first]) - left[first]] if min(totals) <= room else None
    return np.where(np.arange(VOCAB) == only, logits, -np.inf)


def forced_knobs(words) -> dict:
    return {"processors": (f"forced_words(words={words!r})",)}


def check_forced(cases: int, seed: int = 0) -> None:
    """At a random place of a text whose tokens were all chosen with it."""
    random = np.random.default_rng(seed)
    logits, at = scores(random, cases), step(random, cases)
    lists = [word_list(random, text(at, row)) for row in range(cases)]
    links, knobs = chain.join([sampling(GIVEN, **forced_knobs(words)).applied for words in lists])
    for place in range(1, LENGTH):  # as decoding goes: a token, then the processor's own state
        before = jnp.minimum(at.prompt_B + place - 1, at.length_B)
        tokens_B = jnp.take_along_axis(at.tokens_BS, jnp.minimum(before, LENGTH - 1)[:, None], axis=1)[:, 0]
        now = Step(at.tokens_BS, before, at.prompt_B, at.limit_B, at.stop_ids_BI, at.keys_B)
        after = _advanced(links, knobs, logits, tokens_B, now)
        open_B = before < at.length_B
        knobs = jax.tree.map(lambda new, old, on=open_B: jnp.where(_spread(on, new), new, old), after, knobs)
    got = np.asarray(_processed(links, knobs, logits, at))
    for row, words in enumerate(lists):
        new = written(at, row)
        expected = forced_by_hand(words, new, int(at.limit_B[row]) - len(new), logits[row])
        np.testing.assert_array_equal(got[row], expected, err_msg=f"{words} {new}")


_advanced = functools.partial(jax.jit, static_argnums=0)(chain.advance)


def _spread(on_B, like):
    return on_B.reshape(-1, *[1] * (like.ndim - 1))


def main() -> None:
    for name in PEERS:
        check_peer(name, CASES, seed=1)
        print(f"{name}: {CASES} cases as transformers")
    for check in (check_allowed, check_forced):
        check(CASES, seed=1)
        print(f"{check.__name__}: {CASES} cases")


if __name__ == "__main__":
    main()
