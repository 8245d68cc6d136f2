"""Do a model's outputs change by the same amount in a few steps, whatever its width?

Two layers of width 64 to 512, four steps of Adam on the characters of random text, one learning rate. Yang et al. (2022,
"Tensor programs V", figure 5) find that logits change the more in a few steps the wider a transformer is under the standard
parametrisation, that its token embeddings do not, and that under muP neither does. Measured are the powers of the width with
which root mean squares of changes grow, over four widths.
"""

import functools
from pathlib import Path

import jax
import numpy as np

from gpt_jax.configs import base
from gpt_jax.interpret.model import logits
from gpt_jax.model import gpt
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep, finished_runs

WIDTHS = (64, 128, 256, 512)
SCHEMES = {"standard": "gpt2", "muP": "mup(base_width=64)"}
STEPS = 4
YANG = "Yang et al. 2022, figure 5"
FLAT = "a quarter: half of the least power with which sums of many equal terms grow"


def sweep():
    c = base.get_config()
    c.model.update(layers=2, context=64, tied=False, bias=False)
    c.data.update(source="markov(states=64)", tokenizer="none")
    c.optim.update(lr=2**-9, schedule="constant", warmup=0, weight_decay=0.0)
    c.train.update(steps=STEPS, batch=16, eval_every=STEPS, eval_batches=1, save_every=STEPS, tensorboard=False)
    c.train.keep_best = False
    c.sample.prompts = ()
    arms = {
        name(scheme, width): {"model.init": init, "model.width": width, "model.heads": width // 32}
        for scheme, init in SCHEMES.items()
        for width in WIDTHS
    }
    return Sweep(c, arms, seeds=(0, 1, 2, 3, 4), baseline=None)


def name(scheme: str, width: int) -> str:
    return f"{scheme} {width}"


def analyse(results):
    def grows(scheme: str, what: str) -> list[float]:
        return powers(results, scheme, what)

    start = {"logits of fresh weights of equal deviation, which grow as its root": grows("standard", "logits at first")}
    words = {"token embeddings at first, which do not": grows("standard", "embeddings at first")}
    flat = {"least": -0.25, "most": 0.25, "source": YANG, "reason": FLAT, "expected": 0.0}
    return [
        check_claim(
            "standard: change of logits ~ width^a, a",
            "grows",
            grows("standard", "logits"),
            least=0.25,
            source=YANG,
            reason=FLAT,
            expected=0.5,
            must_fail=words,
            must_pass=start,
        ),
        check_claim("muP: the same", "0", grows("muP", "logits"), **flat, must_fail=start, must_pass=words),
        check_claim(
            "standard: change of token embeddings ~ width^a, a",
            "0",
            grows("standard", "embeddings"),
            **flat,
            must_fail=start,
            must_pass=words,
        ),
    ]


def powers(results, scheme: str, what: str) -> list[float]:
    """By seed, the power of the width with which a quantity grows, by least squares of logarithms."""
    rows = [[measured(run)[what] for run in results.done(name(scheme, width)).values()] for width in WIDTHS]
    return [float(np.polyfit(np.log(WIDTHS), np.log(sizes), 1)[0]) for sizes in zip(*rows, strict=True)]


@functools.cache
def measured(directory: Path) -> dict[str, float]:
    """Root mean squares of logits and token embeddings at first, and of their changes by training."""
    run, after = finished_runs.opened(directory)
    model = run.config.model
    before = gpt.init(model, jax.random.key(run.config.train.seed))
    tokens_BT = run.data.valid.fixed(16, 1)[0]["tokens"]
    first, last = ((logits(model, p, tokens_BT), p["embed"]["tokens"]["w"]) for p in (before, after))
    kinds = ("logits", "embeddings")
    found = {kind: rms(b - a) for kind, a, b in zip(kinds, first, last, strict=True)}
    return found | {f"{kind} at first": rms(a) for kind, a in zip(kinds, first, strict=True)}


def rms(x: jax.Array) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(x, float)))))
