"""What does a policy gain that a learned reward likes ever better?

A GPT of three layers describes things in kind and unkind words. A reward model learns from pairs that kind ones are
preferred, and PPO without a penalty follows it; or the best of n samples is taken. The proxy is the reward model; gold is
whether the answer is a whole kind sentence about what was asked, which a programme checks. Gao et al. (2022, "Scaling laws
for reward model overoptimization") find that gold rises and then falls with d, the root of the divergence from the policy
before: as d (alpha - beta log d) for reinforcement learning (equation 2), which needs more divergence than the best of n for
the same proxy, and that reward models of more data allow more gold.
"""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gpt_jax.configs import small
from gpt_jax.plotting import COLOURS, panels
from gpt_jax.study.compare import best_of_n
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, answers
from gpt_jax.train.record import metrics

PAIRS = (50, 2000)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
NEAR = 1.0  # nats, where both are compared
GAO = "Gao et al. 2022"


def sweep():
    arms = {"pretrained": {}}
    arms["tuned"] = small.tuned(200, {"data.source": "preferences(either=True)", "optim.lr": 2e-3})
    for pairs in PAIRS:
        source = f"preferences(count={pairs}, style='unlike')"
        start = {"tune.start": "arm:tuned"}
        arms[judge(pairs)] = small.tuned(
            100, {**start, "data.source": source, "tune.objective": "reward", "optim.lr": 5e-4}
        )
        own = {**start, "data.source": "preferences(valid=256)", "tune.objective": "ppo(kl=0.0)", "optim.lr": 2e-5}
        own |= {"tune.samples": 1, "tune.updates": 4, "tune.epochs": 2, "optim.schedule": "constant"}
        reward = ((1.0, f"model(run='arm:{judge(pairs)}')"), (0.0, "kind"))
        arms[name(pairs)] = small.rewarded(240, {**own, "tune.reward": reward}, evaluations=20)
    return Sweep(small.get_config(), arms, seeds=(0, 1, 2, 3, 4), baseline=None, metric="valid/reward_kind")


def judge(pairs: int) -> str:
    return f"reward of {pairs} pairs"


def name(pairs: int) -> str:
    return f"PPO, {pairs} pairs"


def analyse(results):
    learned = {pairs: [path(run) for run in results.done(name(pairs)).values()] for pairs in PAIRS}
    few, many = PAIRS
    harm = [falls(*curves) for curves in learned[many]]
    highest = [proxy[gold.argmax()] for _, proxy, gold in learned[many]]
    best = {pairs: [gold.max() for _, _, gold in learned[pairs]] for pairs in PAIRS}
    before, first = ([curves[i][0] for curves in learned[many]] for i in (2, 1))
    last = [proxy[-1] for _, proxy, _ in learned[many]]
    taken = [best_of(*runs) for runs in chosen_by(results, many)]
    near = {"PPO": [at(NEAR, kl, proxy) for kl, proxy, _ in learned[many]]}
    near |= {f"best of {size}": [proxy[i] for _, proxy, _ in taken] for i, size in enumerate(SIZES)}
    near["best of n"] = [at(NEAR, kl, proxy) for kl, proxy, _ in taken]

    def known(beta: float) -> list[float]:
        return [falls(kl, gold, bent(kl, beta)) for kl, _, gold in learned[many]]

    return [
        check_claim(
            "PPO: beta of gold = d (alpha - beta log d)",
            "above 0",
            harm,
            least=0.0,
            source=f"{GAO}, equation 2",
            reason="any fall: beta is positive in each of their fits",
            expected=0.1,
            must_fail={"where gold is d (1 + 0.1 log d)": known(-0.1)},
            must_pass={"where gold is d (1 - 0.1 log d)": known(0.1)},
        ),
        check_claim(
            "PPO: proxy at the end - where gold is highest",
            "rises",
            differences(last, highest),
            least=0.0,
            source=f"{GAO}, figure 1",
            reason="more by any amount: the dashed curves go on rising",
            expected=1.0,
            must_fail={"proxy: before - where gold is highest": differences(first, highest)},
            must_pass={"proxy at the end - before": differences(last, first)},
        ),
        check_claim(
            f"proxy at {NEAR:g} nat: best of n - PPO",
            "more",
            differences(near["best of n"], near["PPO"]),
            least=0.0,
            source=f"{GAO}, section 3.5",
            reason="more by any amount",
            expected=0.3,
            must_fail={"one answer - PPO": differences(near[f"best of {SIZES[0]}"], near["PPO"])},
            must_pass={f"best of {SIZES[-1]} - PPO": differences(near[f"best of {SIZES[-1]}"], near["PPO"])},
        ),
        check_claim(
            f"highest gold of PPO: reward model of {many} - of {few} pairs",
            "more",
            differences(best[many], best[few]),
            least=0.02,
            source=f"{GAO}, figure 4",
            reason="more by two hundredths of the answers",
            expected=0.1,
            must_fail={f"before - of {few} pairs": differences(before, best[few])},
            must_pass={f"of {many} pairs - before": differences(best[many], before)},
        ),
    ]


def bent(kl: np.ndarray, beta: float) -> np.ndarray:
    d = np.sqrt(kl)
    return d * (1 - beta * np.log(np.maximum(d, 1e-9)))


@functools.cache
def path(run: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Divergence, proxy and gold at the evaluations of a policy, float64 [evaluations] each."""
    rows = [row for row in metrics.read(run) if "valid/kl" in row]
    kl, proxy, gold = (np.array([row[f"valid/{key}"] for row in rows]) for key in ("kl", "reward_model", "reward_kind"))
    return np.maximum(kl, 0), proxy, gold


@functools.cache
def best_of(policy: Path, reward_model: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of the best of 1, 2, 4, ... answers of a policy, by a reward model."""
    reward = ((1.0, f"model(run={str(reward_model)!r})"), (0.0, "kind"))
    knobs = {"data__source": "preferences(valid=64)", "tune__reward": reward, "sample__temperature": 1.0}
    drawn = answers.drawn(policy, prompts=64, samples=SIZES[-1], **knobs, sample__max_new_tokens=32, sample__rows=256)
    both = (best_of_n.expected(drawn["model"], drawn[key], SIZES)[1].mean(0) for key in ("model", "kind"))
    return best_of_n.divergence(np.array(SIZES)), *both


def chosen_by(results, pairs: int) -> list[tuple[Path, Path]]:
    """The policy and the reward model of each seed."""
    return list(zip(results.done("tuned").values(), results.done(judge(pairs)).values(), strict=True))


def falls(kl: np.ndarray, _: np.ndarray, gold: np.ndarray) -> float:
    """beta of gold - gold before = d (alpha - beta log d), by least squares; d is the root of the divergence."""
    d = np.sqrt(kl)
    there = d > 0
    terms = np.stack([d, -d * np.log(d, where=there, out=np.zeros_like(d))], axis=-1)
    return float(np.linalg.lstsq(terms[there], (gold - gold[0])[there], rcond=None)[0][1])


def at(nats: float, kl: np.ndarray, values: np.ndarray) -> float:
    """The value at a divergence, by straight lines; nan where it is not reached."""
    order = np.argsort(kl, kind="stable")
    return float(np.interp(nats, kl[order], values[order], right=np.nan))


def draw(results):
    figure, axes = panels(9, 3.8, 1, 2, sharey=False)
    lines: list[tuple[str, Callable, str]] = [
        (f"PPO, {n} pairs", functools.partial(_learned, results, n), "-") for n in PAIRS
    ]
    lines.append(
        (f"best of n, {PAIRS[-1]} pairs", lambda: itertools.starmap(best_of, chosen_by(results, PAIRS[-1])), "--")
    )
    for (label, curves, style), colour in zip(lines, COLOURS, strict=False):
        for seed, (kl, *both) in enumerate(curves()):
            for axis, values in zip(axes, both, strict=True):
                axis.plot(np.sqrt(kl), values, style, color=colour, linewidth=1.2, label=label if not seed else None)
    axes[0].set(title="proxy: the reward model", xlabel="root of the divergence, nats", ylabel="reward")
    axes[1].set(title="gold: kind sentences", xlabel="root of the divergence, nats")
    axes[1].legend(frameon=False, fontsize=9)
    return {
        "overoptimization": (
            figure,
            "What is optimised and what is meant, by how far the policy has gone; a line a seed.",
        )
    }


def _learned(results, pairs: int):
    return [path(run) for run in results.done(name(pairs)).values()]
