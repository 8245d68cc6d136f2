"""What does pre-training bring a classifier, by the number of its examples?

Which of eight packages of the standard library is a function from? A GPT of three layers, pre-trained on the source code of
the standard library or not, is tuned on 100, 400 or 1600 functions (Radford et al. 2018, sections 3.2 and 5; the head reads
the state of an extract token). Files are held out whole, and the packages' names are masked. There the average score of
nine tasks falls by 14.8 without pre-training, and larger data sets gain from the auxiliary loss of a language model.
"""

from gpt_jax.configs import small
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, finished_runs

SIZES = (100, 400, 1600)
WITHOUT = "14.8 less on average without (Radford et al. 2018, table 5)"
AUXILIARY = "larger data sets gain from it (Radford et al. 2018, section 5)"
SEEDS = (0, 1, 2, 3, 4)


def sweep():
    c = small.get_config()
    c.model.context = 320
    c.data.tokenizer = "bytes"
    c.train.batch = 8
    return Sweep(c, {"pretrained": {}, **dict(_classifiers())}, seeds=SEEDS, baseline=None, metric="valid/accuracy")


def _classifiers():
    tuned = {
        "optim.lr": 1e-3,
        "optim.schedule": "linear(final=0.0)",
        "optim.warmup": 10,
        "optim.weight_decay": 0.01,
        "train.steps": 200,
        "train.eval_every": 200,
        "train.save_every": 200,
        "train.eval_batches": 0,
    }
    for size in SIZES:
        task = {**tuned, "data.source": f"which_package(count={size}, longest=300)"}
        for weight in (0.5, 0.0):
            own = {**task, "tune.objective": f"classify(classes=8, lm={weight})"}
            yield name(size, True, weight), {**own, "tune.start": "arm:pretrained"}
            if weight:
                yield name(size, False, weight), own


def name(size: int, pretrained: bool, weight: float = 0.5) -> str:
    return f"{size}, {'pretrained' if pretrained else 'from scratch'}" + ("" if weight else ", no auxiliary loss")


def analyse(results):
    def accuracy(*arm):
        return finished_runs.finals(results, name(*arm), "valid/accuracy")

    found = [
        check_claim(
            f"accuracy with {size} examples: pretrained - from scratch",
            WITHOUT,
            differences(accuracy(size, True), accuracy(size, False)),
            least=0,
        )
        for size in SIZES
    ]
    gain = differences(accuracy(SIZES[-1], True), accuracy(SIZES[-1], True, 0.0))
    return [*found, check_claim(f"the same with {SIZES[-1]}: auxiliary loss - none", AUXILIARY, gain, least=0)]
