"""Speculative decoding beside plain decoding, in many cases: greedy texts, distributions, rates of acceptance. By hand:

    python -m tests.sample.every_speculation

``test_speculative`` runs a sample of them.
"""

import functools
import itertools

import jax
import numpy as np
from scipy import stats

from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.knobs import sampling
from gpt_jax.sample.processors import Vocabulary
from gpt_jax.sample.speculative.draft import AnotherModel, FirstLayers
from gpt_jax.sample.speculative.lookup import Lookup
from gpt_jax.sample.speculative.method import Speculative
from tests.model.variants import config, logits, parameters

GREEDY = Sampling(greedy=True)
TINY = config(vocab=8, context=16, width=8, heads=2, kv_heads=1, mlp_width=12)
T, K = 0.8, 6  # the temperature and top-k of the distributions


def drawn(c, seed, scale=1.0):
    """Parameters that differ from ``parameters(c)`` by noise."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda a: a + (scale * 0.3 * random.standard_normal(a.shape)).astype(a.dtype), parameters(c))


def another(c, params, tokens):
    made = Decoder(c, params)
    return Speculative(AnotherModel(tokens, made.config), made.weights)


def prompts(c, lengths, random):
    """Of few tokens, so that lookups find some."""
    return [random.integers(min(4, c.vocab), size=length).tolist() for length in lengths]


MODELS = [
    config(context=64, layers=3),
    config(context=64, attention=("sliding(window=5)", "full"), position="rope"),
    config(context=64, attention="latent(rank=6, rope_dim=2)", position="rope"),
    config(context=64, attention="differential(window=3)", position="alibi", block="post", mlp="moe(experts=2)"),
]


def methods(number, c, params, seed):
    """One of each kind, by the number of the model: several lengths and drafts."""
    tokens, small = (1, 3, 5, 8)[number], config(context=64, width=8)
    near, far = (c, drawn(c, seed, 0.1)), (small, drawn(small, seed))  # drafts that agree often, and seldom
    draft = another(*(near if number % 2 else far), tokens)
    return Speculative(Lookup(tokens, 1 + number % 3)), Speculative(FirstLayers(tokens, 1)), draft


def greedy(number, seeds):
    """(same text, cases, acceptance of each kind) with one of ``MODELS`` and several parameters and prompts."""
    c, found = MODELS[number], []
    for seed in seeds:
        random = np.random.default_rng(seed)
        params = drawn(c, seed)
        rows = 1 if seed % 3 == 0 else 4
        given = prompts(c, random.integers(1, 16, size=rows), random)
        new = [32, *random.integers(1, 33, size=rows - 1).tolist()]  # the same buckets of lengths in all cases
        asked = dict(max_new_tokens=new, sampling=GREEDY, seeds=range(rows))
        plain = Decoder(c, params).generate(given, **asked)
        for method in methods(number, c, params, seed + 1):
            got = Decoder(c, params, method=method).generate(given, **asked, rows=min(rows, 2))
            found.append((got.tokens == plain.tokens, type(method.proposer).__name__, got.acceptance))
    return found


@functools.cache
def exact(prompt, length):
    """Probability of every continuation of ``length`` tokens by TINY at T and K, [8] * length."""
    sequences = np.array(list(itertools.product(range(TINY.vocab), repeat=length)))
    probabilities = np.ones(len(sequences))
    shares = conditional(TINY, parameters(TINY), prompt, sequences)
    for place in range(length):
        probabilities *= shares[np.arange(len(sequences)), place, sequences[:, place]]
    return sequences, probabilities


def conditional(c, params, prompt, sequences):
    """After T and K: of each token of the sequences, given those before, [N, length, V]."""
    whole = np.concatenate([np.tile(prompt, (len(sequences), 1)), sequences], axis=1)
    scores = np.asarray(logits(c, params, whole), np.float64)[:, len(prompt) - 1 : -1] / T
    kth = np.sort(scores, axis=-1)[..., -K, None]
    weights = np.where(scores >= kth, np.exp(scores - scores.max(-1, keepdims=True)), 0)
    return weights / weights.sum(-1, keepdims=True)


def sampled(method, prompt, rows, new):
    """What many rows write with seeds of their own."""
    how = sampling(Vocabulary(TINY.vocab), temperature=T, top_k=K)
    decoder = Decoder(TINY, parameters(TINY), method=method)
    parts = [
        decoder.generate([list(prompt)] * 5000, max_new_tokens=new, sampling=how, seeds=range(first, first + 5000))
        for first in range(0, rows, 5000)
    ]
    return np.array([row for part in parts for row in part.tokens]), [a for part in parts for a in part.acceptance]


def chi_square(texts, prompt, length):
    """The probability of counts of the first ``length`` tokens at least as far from the exact distribution."""
    sequences, probabilities = exact(prompt, length)
    number = (texts[:, :length] * TINY.vocab ** np.arange(length)[::-1]).sum(1)
    counts, expected = np.bincount(number, minlength=len(sequences)), probabilities * len(texts)
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] == 0:
        assert counts[-1] == 0, "a text of no probability"
        counts, expected = counts[:-1], expected[:-1]
    return float(stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), len(counts) - 1))


def expected_rate(draft, prompt):
    """Sum over x of min(p(x), q(x)) of the second token, the mean over the first: what a single test accepts."""
    sequences, probabilities = exact(prompt, 2)
    p, q = (conditional(TINY, params, prompt, sequences)[:, 1] for params in (parameters(TINY), draft))
    return float((probabilities * np.minimum(p, q).sum(-1)).sum())  # every first token occurs with all second ones


def tiny_methods(tokens):
    """Of the model TINY, and parameters of the model that drafts where it is another one."""
    near = drawn(TINY, 7, 1.0)
    return {
        "another model": (another(TINY, near, tokens), near),
        "first layers": (Speculative(FirstLayers(tokens, 1)), None),
        "lookup": (Speculative(Lookup(tokens, 2)), None),
    }


def main() -> None:
    found = []
    for number in range(len(MODELS)):
        found += greedy(number, range(9))
        print(f"model {number + 1}: {sum(same for same, *_ in found)} of {len(found)} texts so far", flush=True)
    print(f"greedy: {sum(same for same, *_ in found)} of {len(found)} texts are those of plain decoding")
    for kind in sorted({kind for _, kind, _ in found}):
        print(f"  {kind}: {sum((a for _, k, rows in found if k == kind for a in rows), start=type(found[0][2][0])())}")
    prompt = (1, 2, 1)
    for tokens in (1, 3):
        for name, (method, draft) in tiny_methods(tokens).items():
            texts, acceptance = sampled(method, prompt, 40_000, 5)
            print(f"{name}, {tokens} at a time: chi-square p = {chi_square(texts, prompt, 3):.3f}")
            if draft is not None and tokens == 1:
                _, acceptance = sampled(method, prompt, 100_000, 2)
                rate = sum(a.accepted for a in acceptance) / sum(a.tested for a in acceptance)
                print(f"  accepted {rate:.4f}, sum of min(p, q) {expected_rate(draft, prompt):.4f}")


if __name__ == "__main__":
    main()
