"""How many comparisons does a style take?

A GPT of three layers describes things in kind and unkind words. A reward model of 20 to 2000 pairs says that kind ones are
preferred, and PPO follows it, held near where it began. Gold is the share of answers that are whole kind sentences about
what was asked. Ziegler et al. (2019, "Fine-tuning language models from human preferences", sections 3.1 and 5) find that a
style needs few comparisons, 5 thousand of GPT-2, and that more of them, 20 or 60 thousand, hardly help.
"""

from gpt_jax.configs import small
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, finished_runs
from gpt_jax.train.record import metrics

PAIRS = (20, 100, 500, 2000)
FEW, CLAIM = PAIRS[1], "Ziegler et al. 2019"


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
        arms[f"{pairs} pairs"] = small.rewarded(160, {**own, "tune.reward": reward})
    return Sweep(small.get_config(), arms, seeds=(0, 1, 2, 3, 4), baseline=None, metric="valid/reward_kind")


def analyse(results):
    gold = {pairs: finished_runs.finals(results, f"{pairs} pairs", "valid/reward_kind") for pairs in PAIRS}
    before = [metrics.read(run)[0]["valid/reward_kind"] for run in results.done(f"{FEW} pairs").values()]
    return [
        check_claim(
            f"kind sentences with {FEW} pairs: after - before",
            f"few suffice ({CLAIM}, section 3.1)",
            differences(gold[FEW], before),
            least=0,
        ),
        check_claim(
            f"the same with {PAIRS[-1]} - with {PAIRS[-2]} pairs",
            f"more hardly help ({CLAIM}, figure 2)",
            differences(gold[PAIRS[-1]], gold[PAIRS[-2]]),
            least=-0.05,
            most=0.05,
        ),
    ]
