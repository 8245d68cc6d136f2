"""Does the gradient's noise grow against its signal as a model learns?

The noise scale is the batch, in tokens, at which the noise of a gradient is as large as the gradient: the trace of the
covariance of a token's gradient over the squared length of the mean one. McCandlish et al. (2018, "An empirical model of
large-batch training", section 3.3 and figure 4) find that it grows by an order of magnitude or more while training goes on,
as gradients get smaller than their noise. Two layers of width 64 on the source code of Python's standard library, and on a
chain that is learned until nothing but noise is left.
"""

import math

from gpt_jax.configs import tiny
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep
from gpt_jax.train.record import metrics

STEPS, LOG = 400, 5
TEXT, CHAIN = "text", "chain"
MCCANDLISH = "McCandlish et al. 2018, section 3.3"


def sweep():
    c = tiny.get_config()
    c.model.init = "gpt2"
    c.optim.update(lr=2e-3, warmup=20)
    c.train.update(steps=STEPS, batch=32, accumulate=8, eval_every=STEPS, save_every=STEPS, eval_batches=10)
    c.train.update(log_every=LOG)
    chain = {"data.source": "markov(states=16)", "data.tokenizer": "none"}
    return Sweep(c, {TEXT: {}, CHAIN: chain}, seeds=(0, 1, 2, 3, 4), baseline=None)


def analyse(results):
    def grown(arm: str, early=(0, 40), late=(STEPS - 100, STEPS)) -> list[float]:
        return [scale(run, *late) / scale(run, *early) for run in results.done(arm).values()]

    return [
        check_claim(
            f"noise scale over the last 100 steps / over the first 40, {TEXT}",
            "10 or more",
            grown(TEXT),
            scale="log",
            least=3.0,
            source=MCCANDLISH,
            reason="the root of the published order of magnitude: these runs are short",
            expected=10.0,
            must_fail={"steps 300 to 350 and 350 to 400": grown(TEXT, (300, 350), (350, 400))},
            must_pass={"a chain, learned until its gradient is noise": grown(CHAIN)},
        )
    ]


def scale(directory, first: int, last: int) -> float:
    """In tokens, over steps ``first`` to ``last``: means of both terms before they are divided."""
    rows = [row for row in metrics.read(directory) if "train/noise_trace" in row and first < row["step"] <= last]
    signal = math.fsum(row["train/noise_signal"] for row in rows) / len(rows)
    return math.fsum(row["train/noise_trace"] for row in rows) / len(rows) / max(signal, 1e-12)
