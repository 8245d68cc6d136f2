"""Does a GPT reach the entropy of a Markov chain, and when does it stay at the entropy of single tokens?

Chains of two states that leave state 0 with probability p and state 1 with q. Makkuva et al. (2024, "Attention with Markov",
figures 1 and 2, theorems 1 and 2) find that one layer with tied embeddings learns the chain for p + q < 1, but for p + q > 1
stays at the loss of the best guess that ignores the last token, a bad local minimum, and that with untied embeddings it does
not. As in their code, models have no norms, ReLU, a bias of the readout, and gradients are not clipped; 400 steps. A second
finding is of this repository: norms remove the trap. The numbers are exact: the entropy rate is the lowest loss there is.
"""

from gpt_jax.configs import base
from gpt_jax.data.open import open_data
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep, finished_runs

SLOW, FAST = (0.2, 0.3), (0.5, 0.8)
LEARNED, TRAPPED, UNTIED, NORMED = "p + q < 1", "p + q > 1", "p + q > 1, untied", "p + q > 1, with norms"
MAKKUVA = "Makkuva et al. 2024, figures 1 and 2, theorems 1 and 2"
EARLY, CLOSE = 50, 0.01


def sweep():
    c = base.get_config()
    c.model.update(layers=1, width=8, heads=1, context=256, norm="none", mlp="relu")
    c.data.tokenizer = "none"
    c.optim.update(lr=2e-3, weight_decay=1e-3, warmup=20, clip=0.0)
    c.train.update(steps=400, batch=16, eval_every=EARLY, save_every=400, eval_batches=16, tensorboard=False)
    c.train.keep_best = False
    c.sample.prompts = ()
    fast = {"data.source": source(*FAST)}
    arms = {
        LEARNED: {"data.source": source(*SLOW)},
        TRAPPED: fast,
        UNTIED: {**fast, "model.tied": False},
        NORMED: {**fast, "model.norm": "layernorm"},
    }
    return Sweep(c, arms, seeds=tuple(range(16)), baseline=None)


def source(p: float, q: float) -> str:
    return f"markov(moves=(({1 - p:g}, {p:g}), ({q:g}, {1 - q:g})))"


def analyse(results):
    tables = {"last": results.values(), "early": results.values_at(EARLY)}

    def above(arm: str, when: str = "last") -> list[float]:
        """Of the way from the entropy rate up to the entropy of single tokens, where a model is."""
        rate, single = entropies(results, arm)
        return [(loss - rate) / (single - rate) for loss in tables[when][arm].values()]

    early = f"after {EARLY} steps"
    reached = {"most": CLOSE * 10, "source": MAKKUVA, "expected": CLOSE}
    reached["reason"] = "a tenth of the way: the two ends of the published curves are the rate and the entropy"
    share = "share of the way from the entropy rate up to the entropy of single tokens"
    stuck = {TRAPPED: above(TRAPPED)}
    return [
        check_claim(
            f"{TRAPPED}, tied: {share}",
            "1",
            above(TRAPPED),
            least=0.5,
            source=MAKKUVA,
            reason="nearer to the loss that ignores the last token; theirs is at it",
            expected=0.98,
            must_fail={UNTIED: above(UNTIED)},
            must_pass={early: above(TRAPPED, "early")},
        ),
        check_claim(
            f"{UNTIED}: the same", "0", above(UNTIED), must_fail=stuck, must_pass={LEARNED: above(LEARNED)}, **reached
        ),
        check_claim(
            f"{LEARNED}, tied: the same",
            "0",
            above(LEARNED),
            must_fail={early: above(LEARNED, "early")},
            must_pass={UNTIED: above(UNTIED)},
            **reached,
        ),
        check_claim(
            f"{NORMED}, tied: the same",
            "0 (ours)",
            above(NORMED),
            must_fail=stuck,
            must_pass={UNTIED: above(UNTIED)},
            **reached,
        ),
    ]


def entropies(results, arm: str) -> tuple[float, float]:
    facts = open_data(finished_runs.config_of(results.done(arm)[results.seeds[0]])).facts
    return facts["entropy_rate"], facts["unigram_entropy"]
