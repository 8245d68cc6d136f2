"""Does the smallest configuration of nanoGPT's README reach the loss of nanoGPT's own code?

Four layers of width 128 on the characters of tinyshakespeare, 2000 steps of 12 x 64 tokens. nanoGPT's README gives a
validation loss of 1.88, an estimate from 20 random batches. Here the loss is that of the whole validation text, and so is
that of nanoGPT's own code in ``THEIRS``, with five seeds (``python -m benchmarks.published.nanogpt``, commit 3adf61e).
"""

from statistics import fmean

from gpt_jax.configs import nanogpt_cpu
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep

THEIRS = (1.8909, 1.9081, 1.9042, 1.9196, 1.9118)
MARGIN, EARLY = 0.02, 1000


def sweep():
    c = nanogpt_cpu.get_config()
    c.train.update(eval_batches=0, eval_every=EARLY, tensorboard=False)
    return Sweep(c, {"nanogpt_cpu": {}}, seeds=tuple(range(8)), baseline=None)


def analyse(results):
    return [
        check_claim(
            "validation loss, nats per character",
            f"{fmean(THEIRS):.3f}",
            results.values()["nanogpt_cpu"].values(),
            least=round(fmean(THEIRS) - MARGIN, 4),
            most=round(fmean(THEIRS) + MARGIN, 4),
            source="nanoGPT, README.md, section quick start, by its own code",
            reason="0.02 either way: what seeds and the README's estimate differ by",
            expected=fmean(THEIRS),
            must_fail={f"after {EARLY} steps": results.values_at(EARLY)["nanogpt_cpu"].values()},
            must_pass={"nanoGPT's own code": THEIRS},
        )
    ]
