"""Which mechanisms can look up a value that stands earlier in the text?

Multi-query associative recall (Arora et al. 2023, "Zoology"): 8 pairs of a key and a value, then every key once, in another
order, each to be answered with its value. There attention answers at least 99% rightly at every width, while mixers with a
state of a fixed size fall behind at small ones. Two layers of width 64; the first sees one token back, as the short
convolution does that Arora et al. put before each mixer, and the second is the mechanism in question. A window of 8 tokens
cannot reach the pairs from most of the queries.
"""

from gpt_jax.configs import base
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep, finished_runs

CLAIM = "Arora et al. 2023"
MECHANISMS = ("full", "sliding(window=8)", "linear", "retention")


def sweep():
    c = base.get_config()
    c.model.update(layers=2, width=64, heads=2, context=32, position="rope")
    c.data.update(source="recall(pairs=8, keys=32, values=32, once=True)", tokenizer="none")
    c.optim.update(lr=3e-3, warmup=100)
    c.train.update(steps=800, batch=64, eval_every=200, save_every=800, eval_batches=16, tensorboard=False)
    c.sample.prompts = ()
    arms = {mechanism: {"model.attention": ["sliding(window=2)", mechanism]} for mechanism in MECHANISMS}
    return Sweep(c, arms, seeds=(0, 1, 2))


def analyse(results):
    rates = {arm: [finished_runs.accuracy(directory) for directory in results.done(arm).values()] for arm in MECHANISMS}
    found = [
        check_claim(
            "full attention: share of queries answered rightly", f"0.99 or more ({CLAIM})", rates["full"], least=0.99
        )
    ]
    for arm in MECHANISMS[1:]:
        behind = [full - rate for full, rate in zip(rates["full"], rates[arm], strict=True)]
        found.append(check_claim(f"{arm}: how much less than full attention", f"behind ({CLAIM})", behind, least=0.01))
    return found
