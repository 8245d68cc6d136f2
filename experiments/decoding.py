"""Does greedy decoding repeat itself, is pure sampling the least likely text, and is nucleus sampling most like people?

The quickstart's model, trained twice. The first writes up to 96 tokens after 96 prompts from held-out source code, two
seeds a sampler, with random keys in common; the second reads what it wrote. Holtzman et al. (2020, table 1) compared texts
of GPT-2 with people's by perplexity (12.38 for people), self-BLEU, Zipf's exponent, and the share that ends in a loop.
Pillutla et al. (2021, table 2) found, by MAUVE, nucleus sampling nearer to people than pure sampling, and greedy decoding
far away. Intervals are bootstrapped over prompts, of one model; differences are paired by prompt. People's code repeats 9%
of its 4-grams, and no sampler but those at low temperatures does.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gpt_jax.config import Config
from gpt_jax.configs import of_run, quickstart
from gpt_jax.study.compare.claims import FAIL, PASS, Control, check_estimate
from gpt_jax.study.compare.statistics import ALPHA, Interval
from gpt_jax.study.decoding import page, samplers, study
from gpt_jax.study.decoding.metrics import estimate, measure
from gpt_jax.study.decoding.repetition import ends_in_loop, seq_rep
from gpt_jax.study.decoding.samplers import GREEDY, HUMAN, PURE
from gpt_jax.study.sweep import Sweep

NUCLEUS, LOW = "top-p 0.95", "temperature 0.5"
SETTINGS = study.Settings(prompts=96)
HOLTZMAN, PILLUTLA = "Holtzman et al. 2020, table 1", "Pillutla et al. 2021, table 2"
PEOPLE = 12.38  # perplexity, published
LOOPED = "human texts whose first four tokens are repeated to the end"
SEEDS = (f"{NUCLEUS}, one seed", "another")  # texts of the same sampler


def nats(perplexity: float) -> str:
    """The published difference of mean nats a token from people's text."""
    return f"{math.log(perplexity / PEOPLE):.2f}"


def sweep():
    c = quickstart.get_config()
    c.train.update(save_every=500, tensorboard=False)
    c.sample.prompts = ()
    return Sweep(c, {"quickstart": {}}, seeds=(0, 1), baseline=None)


@functools.cache
def measured(writer: Path, reader: Path, folder: Path) -> study.Study:
    config = Config.from_dict(of_run(writer))
    return study.study_run(config, writer, None, samplers.default(), SETTINGS, folder, study.Judge(reader))


def studied(results) -> study.Study:
    runs = results.done("quickstart")
    writer, reader = (runs[seed] for seed in results.seeds)
    return measured(writer, reader, results.workdir / "decoding")


@dataclasses.dataclass(frozen=True)
class Difference:
    """A metric of one sampler's texts less that of another's, and the range in which the claim passes.

    Args:
      expected: the published difference, or the least that would matter.
      known: two samplers, the difference between which is known to lie in the range.
    """

    words: str
    published: str
    metric: str
    one: str
    other: str
    allowed: Mapping[str, float]
    reason: str
    expected: float
    known: tuple[str, str]
    source: str = HOLTZMAN


MORE, LESS, SAME_SHARE = {"least": 0.0}, {"most": 0.0}, {"least": -0.05, "most": 0.05}
HALF = {"least": (73.66 - 0.28) / 200}
SIGN, FIFTH = "the sign of what is published", "five in a hundred either way; greedy texts are 73 away"
CLAIMS = (
    Difference("share of texts that end in a loop: greedy - human", "0.73", "loops", GREEDY, HUMAN, HALF,
               "half of the published difference", 0.73, (LOOPED, HUMAN)),
    Difference("the same: greedy - nucleus", "0.73", "loops", GREEDY, NUCLEUS, HALF,
               "half of the published difference", 0.73, (LOOPED, HUMAN)),
    Difference("the same: nucleus - human", "0.00", "loops", NUCLEUS, HUMAN, SAME_SHARE, FIFTH, 0.0, SEEDS),
    Difference("seq-rep-4: greedy - temperature 0.5", "more", "seq_rep_4", GREEDY, LOW, MORE, SIGN, 0.2, (LOOPED, HUMAN)),
    Difference("seq-rep-4: temperature 0.5 - nucleus", "more", "seq_rep_4", LOW, NUCLEUS, MORE, SIGN, 0.05, (LOOPED, HUMAN)),
    Difference("seq-rep-4: nucleus - human", "about 0", "seq_rep_4", NUCLEUS, HUMAN, SAME_SHARE, FIFTH, 0.0,
               SEEDS),
    Difference("log perplexity: greedy - human", nats(1.50), "perplexity", GREEDY, HUMAN, LESS, SIGN, -2.11, (LOW, PURE)),
    Difference("log perplexity: pure sampling - human", nats(22.73), "perplexity", PURE, HUMAN, MORE, SIGN, 0.61,
               (PURE, GREEDY)),
    Difference("log perplexity: nucleus - human", nats(13.13), "perplexity", NUCLEUS, HUMAN, {"least": -0.3, "most": 0.3},
               "half of what pure sampling is published to be away from people", 0.06, SEEDS),
    Difference("log perplexity: pure sampling - nucleus", "0.55, the least likely text", "perplexity", PURE, NUCLEUS, MORE,
               SIGN, 0.55, (PURE, GREEDY)),
    Difference("self-BLEU: temperature 0.75 - pure sampling", "0.35 - 0.28 for 0.9", "self_bleu", "temperature 0.75", PURE,
               MORE, SIGN, 0.07, (GREEDY, PURE)),
    Difference("self-BLEU: temperature 0.5 - 0.75", "more", "self_bleu", LOW, "temperature 0.75", MORE, SIGN, 0.07,
               (GREEDY, PURE)),
    Difference("Zipf's exponent: greedy - human", "1.00 - 0.93", "zipf", GREEDY, HUMAN, MORE, SIGN, 0.07, (GREEDY, PURE)),
    Difference("frontier: pure sampling - greedy", "larger", "frontier", PURE, GREEDY, MORE, SIGN, 0.1, (LOW, GREEDY),
               PILLUTLA),
    Difference("frontier: nucleus - pure sampling", "larger", "frontier", NUCLEUS, PURE, MORE, SIGN, 0.01, (PURE, GREEDY),
               PILLUTLA),
)  # fmt: skip


def analyse(results):
    found = studied(results)
    page.write(found, results.workdir / "decoding")
    return [checked(found, claim) for claim in CLAIMS]


def checked(found: study.Study, claim: Difference):
    def values(name: str) -> np.ndarray:
        """A value a prompt; of perplexities the logarithm."""
        if name == LOOPED:
            repeats = {"loops": ends_in_loop, "seq_rep_4": lambda ids: seq_rep(ids, 4)}[claim.metric]
            texts = [np.tile(text[:4], len(text) // 4) for text in found.corpora[HUMAN][0].texts]
            return np.array([float(repeats(text)) for text in texts])
        return scaled(found.values[name])

    def scaled(values: Mapping[str, np.ndarray]) -> np.ndarray:
        return logs(values[claim.metric]) if claim.metric == "perplexity" else values[claim.metric]

    def of_seeds(name: str) -> np.ndarray:
        """Of the texts of one seed less those of the other: a difference of nothing."""
        one_P, other_P = (scaled(measure([corpus], found.corpora[HUMAN][0])) for corpus in found.corpora[name])
        return one_P - other_P

    def of_halves(name: str) -> np.ndarray:
        """Of a half of the prompts less the other half, where there is one text a prompt."""
        values_P, half = values(name), len(found.corpora[HUMAN][0].texts) // 2
        return values_P[:half] - values_P[half : 2 * half]

    def less(one: str, other: str) -> np.ndarray:
        return values(one) - values(other)

    if claim.known == SEEDS:
        known_P, wrong, wrong_P = of_seeds(NUCLEUS), "greedy - human", less(GREEDY, HUMAN)
    elif claim.other in (HUMAN, GREEDY):
        known_P, wrong, wrong_P = (
            less(*claim.known),
            f"{claim.other}: half of the prompts - the others",
            of_halves(claim.other),
        )
    else:
        known_P, wrong, wrong_P = less(*claim.known), f"{claim.other}, one seed - another", of_seeds(claim.other)
    controls = (
        Control(wrong, FAIL, tuple(map(float, wrong_P))),
        Control(" - ".join(claim.known), PASS, tuple(map(float, known_P))),
    )
    values_P = less(claim.one, claim.other)
    made = estimate(values_P)
    interval = made.interval or unanimous(values_P)
    stated = {"source": claim.source, "reason": claim.reason, "expected": claim.expected, "controls": controls}
    return check_estimate(claim.words, claim.published, made.value, interval, len(values_P), **claim.allowed, **stated)


def unanimous(values_P: np.ndarray) -> Interval:
    """Of differences of shares that are all alike: the exact bound on how many prompts would differ (Clopper & Pearson)."""
    bound = 1 - (ALPHA / 2) ** (1 / len(values_P))
    return Interval(values_P[0] - bound, values_P[0] + bound, 1 - ALPHA)


def logs(values_P: np.ndarray) -> np.ndarray:
    """The logarithm of a metric, in values a prompt: to first order around their mean."""
    mean = values_P.mean()
    return math.log(mean) + (values_P - mean) / mean


def draw(results):
    return page.drawn(studied(results))
