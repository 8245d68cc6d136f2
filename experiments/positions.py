"""Which position schemes work beyond the length that they were trained on?

Four layers of width 128 trained on 64 tokens at a time, then evaluated on the same text in windows of up to 8 times as
many. Press et al. (2021, figure 1) find that sinusoidal positions break at once, that rotary ones work a little
further, and that ALiBi keeps its loss or lowers it. Learned positions have no vector beyond the trained length.
Sinusoids have an amplitude of 1, fifty times that of GPT-2's first embeddings. So with them embeddings are multiplied by the
root of the width, as in Vaswani et al. (2017, section 3.4).
"""

import functools

import numpy as np

from gpt_jax.configs import quickstart
from gpt_jax.errors import UserError
from gpt_jax.plotting import COLOURS, panels
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.sweep import Sweep, finished_runs

SCHEMES = ("learned", "sinusoidal", "rope", "alibi", "t5", "none")
TRAINED, LONGEST, TOKENS = 64, 512, 61_440
CLAIM = "Press et al. 2021, figure 1"


def sweep():
    c = quickstart.get_config()
    c.model.update(width=128, heads=4, context=TRAINED)
    c.train.update(steps=400, batch=24, eval_every=400, save_every=400, eval_batches=40, tensorboard=False)
    c.sample.prompts = ()
    arms = {scheme: {"model.position": scheme} for scheme in SCHEMES}
    arms["sinusoidal"]["model.embed_scale"] = c.model.width**0.5
    return Sweep(c, arms, seeds=(0, 1, 2), margin=0.01)


def analyse(results):
    losses = {scheme: extrapolated(results, scheme) for scheme in SCHEMES}
    more = {scheme: losses[scheme][-1] - losses[scheme][0] for scheme in SCHEMES}
    beyond = f"nats more at {LONGEST} tokens than at the {TRAINED} trained on"
    return [
        check_claim(f"ALiBi: {beyond}", f"none, or fewer ({CLAIM})", more["alibi"], most=0.0),
        check_claim(f"sinusoidal: {beyond}", f"breaks ({CLAIM})", more["sinusoidal"], least=0.1),
        check_claim(f"rotary: {beyond}", f"degrades ({CLAIM})", more["rope"], least=0.0),
        check_claim(
            f"sinusoidal - rotary, nats at {2 * TRAINED} tokens",
            f"rotary works further ({CLAIM})",
            losses["sinusoidal"][1] - losses["rope"][1],
            least=0.0,
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
        "The same text in longer windows: means and extremes of three seeds. Learned positions end where training did."
    )
    return {"extrapolation": (figure, caption)}


def lengths() -> list[int]:
    return [TRAINED * 2**i for i in range((LONGEST // TRAINED).bit_length())]


def extrapolated(results, scheme: str) -> np.ndarray:
    """Losses [lengths, seeds]; nan where the model cannot be run so."""
    return np.array([[at(directory, length) for directory in results.done(scheme).values()] for length in lengths()])


@functools.cache
def at(directory, length: int) -> float:
    batches = 15
    try:
        return finished_runs.loss(
            directory, model__context=length, train__batch=TOKENS // length // batches, train__eval_batches=batches
        )
    except UserError:
        return np.nan
