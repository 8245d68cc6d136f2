"""Is Adam ahead of gradient descent because of rare tokens?

Two layers of width 64 on the source code of Python's standard library, 300 steps, a learning rate tuned for each optimizer:
gradient descent with momentum, AdamW, and the sign of the momentum alone. Kunstner et al. (2023, "Noise is not the main
factor behind the gap between SGD and Adam on transformers", figure 1 and section 3) find Adam far ahead, and sign descent as
well. Kunstner et al. (2024, "Heavy-tailed class imbalance and why Adam outperforms gradient descent on language models",
figure 1) find that what gradient descent lacks is the loss of rare tokens: here those of the rarer half of the text.
"""

import functools
from pathlib import Path

import numpy as np

from gpt_jax.configs import tiny
from gpt_jax.interpret import residual_stream
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, finished_runs

EARLY, STEPS = 10, 300
ARMS = {
    "SGD": {"optim.optimizer": "sgd(momentum=0.9)", "optim.lr": 0.3},
    "AdamW": {"optim.lr": 8e-3},
    "signs": {"optim.optimizer": "lion(b1=0.9, b2=0.9)", "optim.lr": 5e-4},
}
GAP, IMBALANCE = "Kunstner et al. 2023, figure 1 and section 3", "Kunstner et al. 2024, figure 1"


def sweep():
    c = tiny.get_config()
    c.optim.update(warmup=50, weight_decay=0.0, clip=0.0)
    c.train.update(steps=STEPS, eval_every=EARLY, save_every=STEPS, eval_batches=10)
    return Sweep(c, ARMS, seeds=(0, 1, 2, 3, 4), tune="optim.lr", tune_seeds=(1000, 1001))


# Initial values, rates, clipping and the first range were chosen after a first result, in which seeds differed by 0.8 nats.
def analyse(results):
    last, early = results.values(), results.values_at(EARLY)

    def ahead(losses, arm):
        return differences(losses["SGD"].values(), losses[arm].values())

    learned = {"AdamW before training - after": differences(early["AdamW"].values(), last["AdamW"].values())}
    gains = [
        check_claim(
            f"loss: SGD - {arm}, nats a token",
            "behind",
            ahead(last, arm),
            least=0.2,
            source=GAP,
            reason="a fifth of the published gap, which is of a nat, at the best rate of each",
            expected=1.0,
            must_fail={f"after {EARLY} steps": ahead(early, arm)},
            must_pass=learned,
        )
        for arm in ("AdamW", "signs")
    ]
    rare = check_claim(
        "the gap between SGD and AdamW: rare - frequent tokens, nats",
        "rare tokens lack most",
        more_of_rare(results),
        least=0.0,
        source=IMBALANCE,
        reason="more of the gap is in the rarer half of the text; there gradient descent makes next to no progress on it",
        expected=0.3,
        must_fail={"halves drawn at random": more_of_rare(results, at_random=True)},
        must_pass={"shares of the text instead of equal ones": more_by_shares(results)},
    )
    return [*gains, rare]


def more_of_rare(results, at_random: bool = False) -> list[float]:
    found = []
    for runs in zip(results.done("SGD").values(), results.done("AdamW").values(), strict=True):
        (frequent, rare), (adam_frequent, adam_rare) = (halves(run, at_random) for run in runs)
        found.append((rare - adam_rare) - (frequent - adam_frequent))
    return found


def more_by_shares(results) -> list[float]:
    """The same where it is known: tokens guessed by their shares in the text lose to equal guesses on rare ones alone."""
    found = []
    for directory in results.done("SGD").values():
        run, _ = finished_runs.opened(directory)
        targets_BT = np.asarray(run.data.valid.fixed(256, 1)[0]["targets"])
        counts_V, frequent_V = half_of(targets_BT, run.config.model.vocab)
        losses_BT = -np.log(counts_V / counts_V.sum(), where=counts_V > 0, out=np.zeros(len(counts_V)))[targets_BT]
        found.append(float(losses_BT[~frequent_V[targets_BT]].mean() - losses_BT[frequent_V[targets_BT]].mean()))
    return found


@functools.cache
def halves(directory: Path, at_random: bool = False) -> tuple[float, float]:
    """Nats of the frequent and of the rare half of the validation text's tokens; or of two halves drawn at random."""
    run, params = finished_runs.opened(directory)
    batch = run.data.valid.fixed(256, 1)[0]
    losses_BT = np.asarray(residual_stream.token_losses(run.config.model, params, batch["tokens"], batch["targets"]))
    targets_BT = np.asarray(batch["targets"])
    first_BT = half_of(targets_BT, run.config.model.vocab)[1][targets_BT]
    if at_random:
        first_BT = np.random.default_rng(run.config.train.seed).permutation(first_BT.ravel()).reshape(first_BT.shape)
    return float(losses_BT[first_BT].mean()), float(losses_BT[~first_BT].mean())


def half_of(targets_BT: np.ndarray, vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each token occurs, and whether it is one of the most frequent, which make up half of the text: [V] both."""
    counts_V = np.bincount(targets_BT.ravel(), minlength=vocab)
    order_V = np.argsort(-counts_V)
    frequent_V = np.zeros(vocab, bool)
    frequent_V[order_V[np.cumsum(counts_V[order_V]) <= counts_V.sum() / 2]] = True
    return counts_V, frequent_V
