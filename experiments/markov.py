"""Does a GPT reach the entropy of a Markov chain, and when does it stay at the entropy of single tokens?

Chains of two states that leave state 0 with probability p and state 1 with q. Makkuva et al. (2024) find that one layer
with tied embeddings learns the chain for p + q < 1, but for p + q > 1 can stay at the loss of the best guess that
ignores the last token; with untied embeddings, or a second layer, it does not. The numbers are exact: the entropy rate is
the lowest loss there is.
"""

from gpt_jax.configs import base
from gpt_jax.data.open import open_data
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep, finished_runs

CHAINS = {"(.2, .3)": (0.2, 0.3), "(.5, .8)": (0.5, 0.8), "(.9, .9)": (0.9, 0.9)}
MODELS = {"tied": {}, "untied": {"model.tied": False}, "tied, two layers": {"model.layers": 2}}
CLAIM = "Makkuva et al. 2024"
CLOSE = 0.01  # nats


def sweep():
    c = base.get_config()
    c.model.update(layers=1, width=8, heads=1, context=256)
    c.data.tokenizer = "none"
    c.optim.update(lr=2e-3, weight_decay=1e-3, warmup=20)
    c.train.update(steps=1500, batch=16, eval_every=100, save_every=1500, eval_batches=0, tensorboard=False)
    c.sample.prompts = ()
    arms = {
        f"{chain} {model}": {"data.source": source(*switches), **overrides}
        for chain, switches in CHAINS.items()
        for model, overrides in MODELS.items()
    }
    return Sweep(c, arms, seeds=(0, 1, 2), baseline=None)


def source(p: float, q: float) -> str:
    return f"markov(moves=(({1 - p:g}, {p:g}), ({q:g}, {1 - q:g})))"


def analyse(results):
    found = []
    for chain, (p, q) in CHAINS.items():
        for model in MODELS:
            arm = f"{chain} {model}"
            rate, single = entropies(results, arm)
            values = results.values()[arm].values()
            if p + q > 1 and model == "tied":
                share = [(value - rate) / (single - rate) for value in values]
                words = f"{arm}: share of the way from the entropy rate up to that of single tokens, where it stays"
                found.append(check_claim(words, CLAIM, share, least=0.5))
            else:
                excess = [value - rate for value in values]
                found.append(
                    check_claim(f"{arm}: nats above the entropy rate of {rate:.6f}", CLAIM, excess, most=CLOSE)
                )
    return found


def entropies(results, arm: str) -> tuple[float, float]:
    facts = open_data(finished_runs.config_of(results.done(arm)[results.seeds[0]])).facts
    return facts["entropy_rate"], facts["unigram_entropy"]
