"""Every processor against transformers and plain definitions, and draws against exact distributions:
``python -m tests.sample.every_processor``. The suite runs a part of it, tests/sample/test_processors.py."""

import argparse
import functools
import math
import time
from collections import Counter
from collections.abc import Sequence

import jax
import numpy as np
from scipy import stats

from gpt_jax import registry
from gpt_jax.sample.engine import chain, draw
from gpt_jax.sample.knobs import KIND, ORDERS
from gpt_jax.sample.processors import NONE, Step, Vocabulary
from tests.sample.definitions import DEFINED, PEERS, Case, expected, kept, softmax

# Scores and probabilities times 1 ± this have to give the same mask, else float32 may round a case to either side.
MARGIN = 3e-6
NAMES = [name for name in ORDERS["huggingface"] if name in {*PEERS, *DEFINED}]
# Vocabulary -> cases of 300.
VOCABULARIES = {1: 20, 3: 60, 50: 100, 1000: 100, 50257: 20}


def log_uniform(random, least, most) -> float:
    return float(np.exp(random.uniform(np.log(least), np.log(most))))


# Name -> random arguments for a vocabulary and a text.
SETTINGS = {
    "temperature": lambda r, v, text: {"t": log_uniform(r, 0.05, 20)},
    "top_k": lambda r, v, text: {"k": int(r.integers(1, v + 3))},
    "top_p": lambda r, v, text: {"p": float(r.choice([1e-6, r.uniform(), r.uniform(), 0.999]))},
    "min_p": lambda r, v, text: {"p": float(r.choice([0.0, r.uniform(), log_uniform(r, 1e-4, 1), 1.0]))},
    "typical": lambda r, v, text: {"mass": float(r.choice([1e-3, r.uniform(0.01, 0.99), 0.999]))},
    "epsilon": lambda r, v, text: {"cutoff": log_uniform(r, 1e-5, 0.9)},
    "eta": lambda r, v, text: {"cutoff": log_uniform(r, 1e-5, 0.9)},
    "top_n_sigma": lambda r, v, text: {"n": log_uniform(r, 0.1, 5)},
    "mirostat": lambda r, v, text: {"tau": log_uniform(r, 0.2, 4)},
    "xtc": lambda r, v, text: {"probability": float(r.choice([0, 1, 1])), "threshold": log_uniform(r, 2e-3, 0.4)},
    "repetition": lambda r, v, text: {"penalty": log_uniform(r, 0.3, 3)},
    "presence": lambda r, v, text: {"penalty": float(r.normal())},
    "frequency": lambda r, v, text: {"penalty": float(r.normal())},
    "dry": lambda r, v, text: {
        "multiplier": log_uniform(r, 0.1, 5), "base": float(r.choice([1.0, 1.75, 3.0])),
        "allowed_length": int(r.integers(1, 5)), "breakers": tuple(r.choice([*text, v - 1], size=r.integers(3)).tolist()),
    },
    "no_repeat_ngram": lambda r, v, text: {"size": int(r.integers(1, 6))},
    "min_new_tokens": lambda r, v, text: {"tokens": int(r.integers(12))},
    "exponential_decay": lambda r, v, text: {"start": int(r.integers(8)), "factor": log_uniform(r, 0.7, 1.5)},
}  # fmt: skip


def written_call(name: str, arguments: dict) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def case(random: np.random.Generator, vocab: int, names: Sequence[str]) -> Case:
    """A random one: with ties, equal scores or removed tokens, and a text of few tokens, that repeats itself, or of many."""
    scores_V = random.normal(size=vocab) * log_uniform(random, 0.3, 6)
    scores_V = random.choice([1, 1, 0.5, 2]) * np.round(scores_V * 2) if random.random() < 0.4 else scores_V
    scores_V = np.full(vocab, scores_V[0]) if random.random() < 0.05 else scores_V
    if random.random() < 0.3:
        gone_V = random.random(vocab) < random.uniform()
        gone_V[random.integers(vocab)] = False
        scores_V = np.where(gone_V, -np.inf, scores_V)
    alphabet = random.integers(vocab, size=random.choice([1, 2, 3, 20]))
    text = random.choice(alphabet, size=random.integers(1, 25)).tolist()
    prompt = int(random.integers(1, len(text) + 1))
    stop_ids = tuple(random.integers(vocab, size=random.integers(1, 4)).tolist())
    calls = tuple(written_call(name, SETTINGS[name](random, vocab, text)) for name in names)
    return Case(scores_V.astype(np.float32), tuple(text), prompt, stop_ids, calls)


def decisive(given: Case) -> bool:
    """Whether the mask does not hang on how float32 rounds, by the definitions in float64; and some token is left."""
    try:
        masks = [kept(expected(given, "float64", scale)) for scale in (1, 1 - MARGIN, 1 + MARGIN)]
    except ValueError:  # transformers' eta refuses scores of which none is left
        return False
    return all((mask == masks[0]).all() for mask in masks) and (len(given.calls) == 1 or masks[0].any())


def cases(random: np.random.Generator, vocab: int, names: Sequence[str], count: int, redrawn: Counter) -> list[Case]:
    """``count`` decisive cases of some processors."""
    found: list[Case] = []
    while len(found) < count:
        given = case(random, vocab, names)
        if decisive(given):
            found.append(given)
        else:
            redrawn["+".join(names) if len(names) == 1 else "stacks"] += 1
    return found


def stack(random: np.random.Generator) -> list[str]:
    """From two to six of the processors that transformers has, in the default order."""
    chosen = random.choice(sorted(PEERS), size=random.integers(2, 7), replace=False)
    return [name for name in NAMES if name in chosen]


def run(given: Sequence[Case], bits: int = 1, seed: int = 0) -> np.ndarray:
    """All cases in one compiled call, which is the same for all cases of one vocabulary and number."""
    scores_BV, step = np.stack([row.scores_V for row in given]), step_of(given, bits, seed)
    vocabulary = Vocabulary(scores_BV.shape[1])
    rows = [[registry.build(KIND, call, vocabulary) for call in row.calls] for row in given]
    links, knobs = chain.join(rows, every(vocabulary))
    return np.asarray(process(links, knobs, scores_BV, step))


@functools.partial(jax.jit, static_argnums=0)
def process(links, knobs, scores_BV, step):
    return chain.process(links, knobs, scores_BV, step, skips=False)


def every(vocabulary: Vocabulary) -> list:
    """One of each, in the default order."""
    random = np.random.default_rng(0)
    return [registry.build(KIND, written_call(n, SETTINGS[n](random, vocabulary.size, [0])), vocabulary) for n in NAMES]


def step_of(given: Sequence[Case], bits: int = 1, seed: int = 0) -> Step:
    """What processors see; behind each text something is left over that is none of it."""
    size = 32
    tokens_BS = np.random.default_rng(1).integers(len(given[0].scores_V), size=(len(given), size)).astype(np.int32)
    stop_ids_BI = np.full((len(given), 3), NONE, np.int32)
    for row, one in enumerate(given):
        tokens_BS[row, : len(one.text)] = one.text
        stop_ids_BI[row, : len(one.stop_ids)] = one.stop_ids
    length_B, prompt_B = (np.array(v, np.int32) for v in ([len(c.text) for c in given], [c.prompt for c in given]))
    keys_B = jax.random.split(jax.random.key(seed), len(given))
    return Step(tokens_BS, length_B, prompt_B, np.full(len(given), 99, np.int32), stop_ids_BI, keys_B, bits)


def difference(one: Case, got_V: np.ndarray) -> tuple[bool, float]:
    """Whether the masks are the same, and the largest difference of values, relative to 1 or to the value."""
    expected_V = expected(one)
    if (kept(expected_V) != kept(got_V)).any():
        return False, math.inf
    there_V = kept(expected_V)
    wanted, got = expected_V[there_V], got_V[there_V]
    apart = np.abs(wanted - got) / np.maximum(1, np.abs(wanted))
    return True, float(apart.max(initial=0))


# Calls -> a sampler. The exact distribution is that of the definitions; of xtc, a mixture.
SAMPLERS = (
    ("temperature(t=0.7)",), ("temperature(t=1.5)",), ("top_k(k=8)",), ("top_p(p=0.8)",), ("min_p(p=0.1)",),
    ("typical(mass=0.7)",), ("epsilon(cutoff=0.02)",), ("eta(cutoff=0.06)",), ("top_n_sigma(n=1.2)",),
    ("mirostat(tau=2.0)",), ("xtc(probability=0.4, threshold=0.08)",),
    ("temperature(t=1.4)", "top_k(k=25)", "top_p(p=0.9)", "min_p(p=0.05)"),
    ("repetition(penalty=1.5)", "frequency(penalty=0.3)", "presence(penalty=0.4)", "temperature(t=0.8)"),
)  # fmt: skip


def sampler(calls: Sequence[str], vocab: int = 50) -> Case:
    scores_V = (1.5 * np.random.default_rng(3).standard_normal(vocab)).astype(np.float32)
    return Case(scores_V, (1, 2, 3, 2, 1, 2), 2, (0,), tuple(calls))


def exact(given: Case) -> np.ndarray:
    """The distribution that a sampler draws from, float64 [V]."""
    if not given.calls or not given.calls[0].startswith("xtc"):
        return softmax(expected(given, "float64"))
    values = registry.parse(given.calls[0])[1]
    struck = Case(*list(vars(given).values())[:-1], (written_call("xtc", values | {"probability": 1}),))
    share = values["probability"]
    return share * softmax(expected(struck, "float64")) + (1 - share) * softmax(given.scores_V.astype(np.float64))


def draws(given: Case, count: int, seed: int) -> np.ndarray:
    """Tokens that are drawn after the sampler's processors, each with a key of its own, as the engine draws them."""
    vocabulary = Vocabulary(len(given.scores_V))
    links, knobs = chain.join([[registry.build(KIND, call, vocabulary) for call in given.calls]], every(vocabulary))
    keys_B = jax.random.split(jax.random.key(seed), count)
    return np.asarray(_drawn(links, knobs, given.scores_V[None], step_of([given]), keys_B))


@functools.partial(jax.jit, static_argnums=0)
def _drawn(links, knobs, scores_1V, step, keys_B):
    def one(key):
        own = Step(**{**vars(step), "keys_B": key[None]})
        return draw.draw(chain.process(links, knobs, scores_1V, own, skips=False), own.keys_B)[0]

    return jax.lax.map(one, keys_B, batch_size=2000)


def p_value(tokens: np.ndarray, exact_V: np.ndarray) -> float:
    """Of a chi-square test, tokens of fewer than 5 expected draws together; 0 where an impossible one was drawn."""
    counts_V = np.bincount(tokens, minlength=len(exact_V))
    if counts_V[exact_V == 0].any():
        return 0.0
    common = exact_V * len(tokens) >= 5
    observed, wanted = counts_V[common], exact_V[common] * len(tokens)
    if exact_V[~common].sum() * len(tokens) >= 1:
        observed, wanted = np.append(observed, counts_V[~common].sum()), np.append(wanted, len(tokens) - wanted.sum())
    return float(stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    failures = compare_all(asked.seed) + draw_all(asked.draws, asked.seed)
    raise SystemExit(1 if failures else 0)


def compare_all(seed: int) -> int:
    """Prints a line for each processor and one for stacks; the number of cases that differ."""
    redrawn: Counter = Counter()
    number, wrong, apart = Counter(), Counter(), Counter()
    for vocab, count in VOCABULARIES.items():
        random = np.random.default_rng([seed, vocab])
        begun = time.perf_counter()
        given = [(name, one) for name in NAMES for one in cases(random, vocab, [name], count, redrawn)]
        given += [("stacks", cases(random, vocab, stack(random), 1, redrawn)[0]) for _ in range(count)]
        variants = (1, 4) if vocab < 10_000 else (1,)
        for bits in variants:
            got_BV = run([one for _, one in given], bits)
            for (name, one), got_V in zip(given, got_BV, strict=True):
                same, by = difference(one, got_V)
                number[name] += bits == 1
                wrong[name] += not same or by > 1e-6
                apart[name] = max(apart[name], by)
        seconds = time.perf_counter() - begun
        ways = " and ".join({1: "as on CPUs", 4: "as on accelerators"}[bits] for bits in variants)
        print(f"vocabulary {vocab}: {len(given)} cases, {ways}, {seconds:.1f} s", flush=True)
    print(f"\n{'processor':18} {'against':14} cases differ  largest difference  redrawn")
    for name in (*NAMES, "stacks"):
        peer = "definition" if name in DEFINED else "transformers"
        print(f"{name:18} {peer:14} {number[name]:5} {wrong[name]:6}  {apart[name]:18.1e}  {redrawn[name]:7}")
    return sum(wrong.values())


def draw_all(count: int, seed: int) -> int:
    """Prints a line for each sampler; the number of those that fail."""
    level, failures = 0.001 / len(SAMPLERS), 0
    print(f"\n{count} draws each; fails below p = 0.001 / {len(SAMPLERS)} = {level:.1e}")
    for number, calls in enumerate(SAMPLERS):
        given = sampler(calls)
        tokens = draws(given, count, seed + number)
        p, other = p_value(tokens, exact(given)), p_value(tokens, exact(sampler(())))
        failures += p < level or other > level
        verdict = "fails" if p < level else "passes"
        print(f"{verdict} p = {p:.3f}; against the softmax alone {other:.0e}  {', '.join(calls)}", flush=True)
    return failures


if __name__ == "__main__":
    main()
