"""How many comparisons does a style take?

A GPT of three layers describes things in kind and unkind words. A reward model of 100 to 2000 pairs says that kind ones are
preferred, and PPO follows it, held near where it began. Gold is the share of answers that are whole kind sentences about
what was asked. Ziegler et al. (2019, "Fine-tuning language models from human preferences", sections 3.1 and 5) find that a
style needs few comparisons, 5 thousand of GPT-2, and that more of them, 20 or 60 thousand, hardly help.
"""

from gpt_jax.configs import small
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, finished_runs
from gpt_jax.train.record import metrics

METRIC = "valid/reward_kind"
PAIRS = (100, 500, 2000)
FEW, ZIEGLER = PAIRS[0], "Ziegler et al. 2019, sections 3.1 and 5"


def sweep():
    start = {"tune.start": "arm:tuned"}
    arms = {"pretrained": {}}
    arms["tuned"] = small.tuned(200, {"data.source": "preferences(either=True)", "optim.lr": 2e-3})
    for pairs in PAIRS:
        source = f"preferences(count={pairs}, style='unlike')"
        task = {**start, "data.source": source, "tune.objective": "reward", "optim.lr": 5e-4}
        arms[f"reward of {pairs}"] = small.tuned(100, task)
        own = {**start, "data.source": "preferences(valid=256)", "tune.objective": "ppo(kl=0.3)", "optim.lr": 4e-5}
        own |= {"tune.samples": 1, "tune.updates": 4, "tune.epochs": 2}
        reward = ((1.0, f"model(run='arm:reward of {pairs}')"), (0.0, "kind"))
        arms[f"{pairs} pairs"] = small.rewarded(160, {**own, "tune.reward": reward}, evaluations=10)
    return Sweep(small.get_config(), arms, seeds=(0, 1, 2, 3, 4), baseline=None, metric=METRIC)


def analyse(results):
    gold = {pairs: finished_runs.finals(results, f"{pairs} pairs", METRIC) for pairs in PAIRS}
    most, many = PAIRS[-1], PAIRS[-2]
    before, early, late = (at(number, results, pairs) for pairs, number in ((FEW, 0), (FEW, 1), (most, -2)))
    return [
        check_claim(
            f"share of kind sentences with {FEW} pairs: after - before",
            "few suffice",
            differences(gold[FEW], before),
            least=0.1,
            source=ZIEGLER,
            reason="a tenth of the answers; there 86% and 88% are preferred to what was before",
            expected=0.36,
            must_fail={"after a tenth of the steps": differences(early, before)},
            must_pass={f"{most} pairs": differences(gold[most], at(0, results, most))},
        ),
        check_claim(
            f"the same with {most} - with {many} pairs",
            "more hardly help",
            differences(gold[most], gold[many]),
            least=-0.1,
            most=0.1,
            source=ZIEGLER,
            reason="within what counts as learning a style, above",
            expected=0.0,
            must_fail={f"{most} pairs: after - before": differences(gold[most], at(0, results, most))},
            must_pass={f"{most} pairs: at the end - at the evaluation before": differences(gold[most], late)},
        ),
    ]


def at(number: int, results, pairs: int) -> list[float]:
    """The gold of every seed at one of the evaluations, of which the first is that before training."""
    runs = results.done(f"{pairs} pairs").values()
    return [[row[METRIC] for row in metrics.read(run) if METRIC in row][number] for run in runs]
