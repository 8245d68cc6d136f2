"""How should compute be split between parameters and data, at sizes that two CPU cores can train?

Seven sizes of 15 to 550 thousand parameters on the source code of Python's standard library, five of them at
each of three budgets, three seeds, under muP with one learning rate: 2^-8, of 2^-7, 2^-8 and 2^-9 the best or nearly
the best at widths 24, 64 and 96, tried with one seed. Warmup is a fifth of every run, as
one length for all harms the short ones (Porian et al. 2024). Hoffmann et al. (2022, table 2) find that the best size
grows as the 0.46th to 0.50th power of compute. Counting parameters without embeddings raises the exponent (Pearce & Song
2024), as in Kaplan et al. (2020), who had 0.73.
"""

from gpt_jax.configs import quickstart
from gpt_jax.study.compare.claims import check_estimate
from gpt_jax.study.scaling import analysis, ladder
from gpt_jax.study.sweep import Sweep

SIZES = {
    f"width {width}": {"model.width": width, "model.heads": max(1, width // 16), "model.layers": layers}
    for width, layers in ((12, 1), (16, 1), (24, 2), (32, 2), (48, 3), (64, 4), (96, 4))
}
BUDGETS = (1.5e11, 4.5e11, 1.35e12)
HOFFMANN, PEARCE = "0.46 to 0.50 (Hoffmann et al. 2022, table 2)", "higher (Pearce & Song 2024)"


def sweep():
    c = quickstart.get_config()
    c.model.update(context=64, vocab=512, tied=False, init="mup(base_width=64)")
    c.data.tokenizer = "bpe(vocab_size=512)"
    c.optim.update(lr=2**-8, weight_decay=0.0, optimizer="adamw(b1=0.9, b2=0.95, eps=1e-8)")
    c.train.update(batch=16, eval_batches=100, tensorboard=False)
    c.sample.prompts = ()
    arms = {}
    for i, budget in enumerate(BUDGETS):
        arms |= ladder.isoflop(c, dict(list(SIZES.items())[i : i + 5]), (budget,))
    arms = {name: {**knobs, "optim.warmup": knobs["train.steps"] // 5} for name, knobs in arms.items()}
    return Sweep(c, arms, seeds=(0, 1, 2), baseline=None)


def analyse(results):
    found = {count: analysis.analyse(ladder.points(results, count)) for count in ("total", "non_embedding")}
    claims = []
    for count, (words, published, least, most) in {
        "total": ("all parameters counted", HOFFMANN, 0.40, 0.60),
        "non_embedding": ("embeddings not counted", PEARCE, 0.50, 0.80),
    }.items():
        law = found[count]
        one = None if law.lack_of_fit and law.lack_of_fit.significant else law.exponent
        runs = len(law.points)
        claim = f"params ~ FLOPs^a by Hoffmann's approach 3, {words}: a"
        value, interval = (one.value, one.interval) if one else (float("nan"), None)
        claims.append(check_estimate(claim, published, value, interval, runs, least=least, most=most))
    return claims


def draw(results):
    from gpt_jax.study.scaling import figure

    figure = figure.draw(analysis.analyse(ladder.points(results)))
    return {
        "fit": (figure, "All parameters counted: the runs and the law, its residuals, and where compute goes by it.")
    }
