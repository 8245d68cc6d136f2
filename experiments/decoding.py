"""Does greedy decoding repeat itself, is pure sampling the least likely text, and is nucleus sampling most like people?

The quickstart's model, trained twice. The first writes up to 96 tokens after 96 prompts from held-out source code, two
seeds a sampler, with random keys in common; the second reads what it wrote. Holtzman et al. (2020, table 1) compared texts
of GPT-2 with people's by perplexity (12.38 for people), self-BLEU, Zipf's exponent, and the share that ends in a loop.
Pillutla et al. (2021, table 2) found, by MAUVE, nucleus sampling nearer to people than pure sampling, and greedy decoding
far away. Intervals are bootstrapped over prompts, of one model; differences are paired by prompt. People's code repeats 9%
of its 4-grams, and no sampler but those at low temperatures does.
"""

import functools
import math
from pathlib import Path

import numpy as np

from gpt_jax.config import Config
from gpt_jax.configs import of_run, quickstart
from gpt_jax.study.compare.claims import check_estimate
from gpt_jax.study.compare.statistics import ALPHA, Interval
from gpt_jax.study.decoding import page, samplers, study
from gpt_jax.study.decoding.metrics import estimate
from gpt_jax.study.decoding.samplers import GREEDY, HUMAN, PURE
from gpt_jax.study.sweep import Sweep

NUCLEUS, LOW = "top-p 0.95", "temperature 0.5"
SETTINGS = study.Settings(prompts=96)
HOLTZMAN, PILLUTLA = "Holtzman et al. 2020, table 1", "Pillutla et al. 2021, table 2"
PEOPLE = 12.38  # perplexity, published
NEAR = 0.3  # nats: half of what pure sampling is published to be away from people


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


def analyse(results):
    found = studied(results)
    page.write(found, results.workdir / "decoding")

    def less(one: str, other: str, metric: str) -> np.ndarray:
        return found.values[one][metric] - found.values[other][metric]

    def nats(one: str, other: str) -> np.ndarray:
        """The difference of mean nats a token: of the logarithms of perplexities."""
        return logs(found.values[one]["perplexity"]) - logs(found.values[other]["perplexity"])

    def published(value: float) -> str:
        return f"{math.log(value / PEOPLE):.2f} ({HOLTZMAN})"

    def check(claim: str, source: str, values_P: np.ndarray, **allowed: float):
        made = estimate(values_P)
        interval = made.interval or unanimous(values_P)
        return check_estimate(claim, source, made.value, interval, len(values_P), **allowed)

    half = (73.66 - 0.28) / 200
    rep, loops = "seq_rep_4", "loops"
    return [
        check(
            "share of texts that end in a loop: greedy - human", f"0.73 ({HOLTZMAN})", less(GREEDY, HUMAN, loops),
            least=half,
        ),
        check("the same: greedy - nucleus", f"0.73 ({HOLTZMAN})", less(GREEDY, NUCLEUS, loops), least=half),
        check(
            "the same: nucleus - human", f"0.00 ({HOLTZMAN})", less(NUCLEUS, HUMAN, loops), least=-0.05, most=0.05
        ),
        check("seq-rep-4: greedy - temperature 0.5", f"more ({HOLTZMAN})", less(GREEDY, LOW, rep), least=0),
        check("seq-rep-4: temperature 0.5 - nucleus", f"more ({HOLTZMAN})", less(LOW, NUCLEUS, rep), least=0),
        check("seq-rep-4: nucleus - human", f"about 0 ({HOLTZMAN})", less(NUCLEUS, HUMAN, rep), least=-0.05, most=0.05),
        check("log perplexity: greedy - human", published(1.50), nats(GREEDY, HUMAN), most=0),
        check("log perplexity: pure sampling - human", published(22.73), nats(PURE, HUMAN), least=0),
        check("log perplexity: nucleus - human", published(13.13), nats(NUCLEUS, HUMAN), least=-NEAR, most=NEAR),
        check("log perplexity: pure sampling - nucleus", "0.55, the least likely text (the same)", nats(PURE, NUCLEUS),
              least=0),
        check("self-BLEU: temperature 0.75 - pure sampling", f"0.35 - 0.28 for 0.9 ({HOLTZMAN})",
              less("temperature 0.75", PURE, "self_bleu"), least=0),
        check("self-BLEU: temperature 0.5 - 0.75", "more (the same)", less(LOW, "temperature 0.75", "self_bleu"), least=0),
        check("Zipf's exponent: greedy - human", f"1.00 - 0.93 ({HOLTZMAN})", less(GREEDY, HUMAN, "zipf"), least=0),
        check("frontier: pure sampling - greedy", f"larger ({PILLUTLA})", less(PURE, GREEDY, "frontier"), least=0),
        check("frontier: nucleus - pure sampling", f"larger ({PILLUTLA})", less(NUCLEUS, PURE, "frontier"), least=0),
    ]  # fmt: skip


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
