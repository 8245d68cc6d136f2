"""Every attention and position variant decodes what the uncached model says, however its texts are read.

    python -m tests.sample.every_variant [WORD …]    # minutes; variants whose call holds a word. A sample is in the suite

The checks are ``CHECKS``: greedy tokens through the cache are the uncached model's · prompts read in parts give what one
pass gives · neighbours, padding and the length of the cache do not matter · the same seed gives the same text · rows that
replace others write what they write alone · a mesh of 8 devices gives what one gives · beyond the context, the text is the
one of a window · rows that take requests at any time write what a batch of all writes.
"""

import tests.conftest  # noqa: F401, I001  before JAX: 8 virtual devices

import dataclasses
import functools
import sys
from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.mesh import mesh as meshes
from gpt_jax.sample.engine import context
from gpt_jax.sample.decode import Decoder, Generated, Sampling
from gpt_jax.sample.platform import CPU
from tests.sample import test_continuous
from tests.mesh.sizes import mesh_config
from tests.model.variants import calls, config, has_backend, logits, parameters
from tests.sample.test_context import assert_scores, last_logits

LENGTHS, LIMITS, NEW, CONTEXT = (21, 5, 13), [2, 7, 7], 7, 32
IN_PARTS = dataclasses.replace(CPU, chunk=4)
MESH = {"data": 2, "fsdp": 2, "tensor": 2}
GREEDY, WARM = Sampling(greedy=True), Sampling()
VARIANTS = [(kind, call) for kind in ("attention", "position") for call in calls(kind)]


@functools.cache
def config_of(kind: str, call: str) -> ModelConfig:
    """A model of one variant. A mechanism stands with rotary positions, if it can: they go on beyond the context."""
    for position in ("rope", "none"):
        c = config(**{"context": CONTEXT, "position": position, kind: call})
        try:
            parameters(c)
        except UserError:
            continue
        return c
    raise ValueError(f"{call} stands with neither position")


def prompts(c: ModelConfig) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(c.vocab, size=length).tolist() for length in LENGTHS]


@functools.lru_cache(maxsize=4)
def decoder(c: ModelConfig, platform=CPU) -> Decoder:
    return Decoder(c, parameters(c), platform)


def write(by: Decoder, chosen=(0, 1, 2), limits=NEW, sampling=WARM, **asked) -> Generated:
    given = [prompts(by.config)[number] for number in chosen]
    return by.generate(given, max_new_tokens=limits, sampling=sampling, seeds=chosen, **asked)


@functools.lru_cache(maxsize=2)
def plain(c: ModelConfig) -> Generated:
    return write(decoder(c))


def assert_same(got: Generated, expected: Generated, lengths=(NEW, NEW, NEW)) -> None:
    for row, length in enumerate(lengths):
        assert got.tokens[row] == expected.tokens[row][:length], (got.tokens, expected.tokens)
        np.testing.assert_allclose(got.logprobs[row], expected.logprobs[row][:length], atol=2e-4)


def cached(c: ModelConfig) -> None:
    got = write(decoder(c), sampling=GREEDY)
    texts = [prompt + new for prompt, new in zip(prompts(c), got.tokens, strict=True)]
    whole_BT = np.array([text + [0] * (CONTEXT - len(text)) for text in texts], np.int32)
    likeliest_BT = np.asarray(logits(c, parameters(c), whole_BT).argmax(-1))
    for length, new, likeliest_T in zip(LENGTHS, got.tokens, likeliest_BT, strict=True):
        assert likeliest_T[length - 1 : length - 1 + NEW].tolist() == new


def in_parts(c: ModelConfig) -> None:
    assert_same(write(decoder(c, IN_PARTS)), plain(c))


def neighbours(c: ModelConfig) -> None:
    got = write(decoder(c), [2, 1], [NEW, 3])
    assert got.tokens == [plain(c).tokens[2], plain(c).tokens[1][:3]]


def seeds(c: ModelConfig) -> None:
    given = [prompts(c)[1]] * 3
    got = decoder(c).generate(given, max_new_tokens=NEW, sampling=WARM, seeds=[1, 7, 1]).tokens
    assert got[0] == got[2] == plain(c).tokens[1]


def replaced(c: ModelConfig) -> None:
    assert_same(write(decoder(c, IN_PARTS), limits=LIMITS, rows=2), plain(c), LIMITS)


def on_a_mesh(c: ModelConfig) -> None:
    mesh = meshes.make(mesh_config(**MESH))
    assert_same(write(Decoder(c, parameters(c), mesh=mesh)), plain(c))


def beyond_the_context(c: ModelConfig) -> None:
    """Of one layer, as the window of several adds up. What keeps a state instead of tokens goes on as the longer one."""
    c = dataclasses.replace(c, layers=1, context=12)
    if context.bounded(c):
        return
    got = write(decoder(c, IN_PARTS).beyond(context.ROLL))
    if all(map(has_backend, c.attentions)):
        uncached = functools.partial(last_logits, c, first_of=lambda end: max(0, end - c.context), rises=True)
    else:
        uncached = functools.partial(logits, dataclasses.replace(c, context=CONTEXT), parameters(c))
    assert_scores(got, prompts(c), uncached)


def continuous(c: ModelConfig) -> None:
    test_continuous.check(dataclasses.replace(c, context=64))


CHECKS: tuple[Callable[[ModelConfig], None], ...] = (
    cached,
    in_parts,
    neighbours,
    seeds,
    replaced,
    on_a_mesh,
    beyond_the_context,
    continuous,
)


def main() -> None:
    chosen = [(kind, call) for kind, call in VARIANTS if all(word in f"{kind}={call}" for word in sys.argv[1:])]
    wrong = []
    for kind, call in tqdm(chosen):
        for check in CHECKS:
            try:
                check(config_of(kind, call))
            except AssertionError as error:
                wrong.append(f"{kind}={call}, {check.__name__}: {error}")
    print(*wrong, f"{len(chosen)} variants, {len(chosen) * len(CHECKS)} checks, {len(wrong)} fail", sep="\n")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
