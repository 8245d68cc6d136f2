"""Which position schemes work beyond the length that they were trained on?

Two layers of width 64 trained on 64 tokens at a time, then evaluated on the same text in windows of up to 8 times as many.
Press et al. (2021, figure 1) find that sinusoidal positions break at once, that rotary ones work a little further, and that
ALiBi keeps its loss or lowers it. Learned positions have no vector beyond the trained length. Sinusoids have amplitude 1,
fifty times that of GPT-2's first embeddings; with them embeddings are multiplied by the root of the width, as in Vaswani et
al. (2017, section 3.4). Rates are tuned for each scheme.
"""

import functools

import numpy as np

from gpt_jax.configs import tiny
from gpt_jax.errors import UserError
from gpt_jax.plotting import COLOURS, panels
from gpt_jax.study.compare.claims import check_claim, differences
from gpt_jax.study.sweep import Sweep, finished_runs

SCHEMES = ("learned", "sinusoidal", "rope", "alibi", "t5", "none")
WINDOW = "a window of 16 tokens"
TRAINED, LONGEST, TOKENS = 64, 512, 61_440
PRESS = "Press et al. 2021, figure 1"


def sweep():
    c = tiny.get_config()
    c.model.update(heads=4, context=TRAINED)
    c.optim.update(lr=8e-3, warmup=50)
    c.train.update(steps=300, eval_every=300, save_every=300, eval_batches=20)
    arms = {scheme: {"model.position": scheme} for scheme in SCHEMES}
    arms["sinusoidal"]["model.embed_scale"] = c.model.width**0.5
    arms[WINDOW] = {"model.position": "rope", "model.attention": "sliding(window=16)"}
    return Sweep(c, arms, seeds=(0, 1, 2, 3, 4), margin=0.01, tune="optim.lr", tune_seeds=(1000,))


def analyse(results):
    losses = {arm: extrapolated(results, arm) for arm in ("sinusoidal", "rope", "alibi", WINDOW)}
    more = {arm: [found_CS[i] - found_CS[0] for i in range(len(found_CS))] for arm, found_CS in losses.items()}
    unplaced = [at(run, LONGEST, "none") - at(run, LONGEST) for run in results.done("rope").values()]
    wrong, near = {"rotary, evaluated without positions - with them": unplaced}, {WINDOW: more[WINDOW][-1]}
    beyond = f"nats more at {LONGEST} tokens than at the {TRAINED} trained on"
    return [
        check_claim(
            f"ALiBi: {beyond}",
            "none, or fewer",
            more["alibi"][-1],
            most=0.01,
            source=PRESS,
            reason="no more, but for a hundredth of a nat, which is the width of their lines",
            expected=-0.03,
            must_fail=wrong,
            must_pass=near,
        ),
        *(
            check_claim(
                f"{words}: {beyond}",
                published,
                more[arm][-1],
                least=least,
                source=PRESS,
                reason=reason,
                expected=expected,
                must_fail=near,
                must_pass=wrong,
            )
            for arm, words, published, least, reason, expected in (
                ("sinusoidal", "sinusoidal", "breaks", 0.1, "perplexity rises there by far more than the tenth", 0.5),
                ("rope", "rotary", "degrades", 0.01, "by more than the width of their lines", 0.1),
            )
        ),
        check_claim(
            f"nats more at {2 * TRAINED} tokens: sinusoidal - rotary",
            "rotary works further",
            differences(more["sinusoidal"][1], more["rope"][1]),
            least=0.0,
            source=PRESS,
            reason="further by any amount",
            expected=0.1,
            must_fail={f"{WINDOW} - rotary": differences(more[WINDOW][1], more["rope"][1])},
            must_pass=wrong,
        ),
    ]


def draw(results):
    figure, axis = panels(7, 4.2)
    for colour, scheme in zip(COLOURS, SCHEMES, strict=False):
        losses_CS = extrapolated(results, scheme)
        axis.plot(lengths(), losses_CS.mean(1), "o-", color=colour, markersize=4, label=scheme)
        axis.fill_between(lengths(), losses_CS.min(1), losses_CS.max(1), color=colour, alpha=0.15, linewidth=0)
    axis.set_xscale("log", base=2)
    axis.set_xticks(lengths(), lengths())
    axis.set(xlabel="tokens in a window; 64 were trained on", ylabel="validation loss, nats per token")
    axis.legend(frameon=False, fontsize=9)
    caption = (
        "The same text in longer windows: means and extremes of five seeds. Learned positions end where training did."
    )
    return {"extrapolation": (figure, caption)}


def lengths() -> list[int]:
    return [TRAINED * 2**i for i in range((LONGEST // TRAINED).bit_length())]


def extrapolated(results, scheme: str) -> np.ndarray:
    """Losses [lengths, seeds]; nan where the model cannot be run so."""
    return np.array([[at(directory, length) for directory in results.done(scheme).values()] for length in lengths()])


@functools.cache
def at(directory, length: int, position: str = "") -> float:
    """Nats a token of the same text in windows of ``length``, with the positions that it was trained with or others."""
    batches = 15
    knobs = {"model__context": length, "train__batch": TOKENS // length // batches, "train__eval_batches": batches}
    try:
        return finished_runs.loss(directory, **knobs, **({"model__position": position} if position else {}))
    except UserError:
        return np.nan
