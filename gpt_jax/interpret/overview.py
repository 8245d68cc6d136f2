"""The scores and figures of a checkpoint, into its directory under interpret/."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.config import Config, ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.interpret import ablate, attention, figures, residual_stream, spectra
from gpt_jax.interpret.model import unrolled
from gpt_jax.plotting import save
from gpt_jax.storage import make_folder, write_json
from gpt_jax.train.run import Run, open_run, to_read

WINDOWS, TOKENS = 16, 4096  # of validation text, at most, that scores are averaged over
MOST_WEIGHTS = 2**27  # of attention maps, that exist at once
SHOWN, GUESSED = 48, 16  # tokens of the text in the pictures of heads, and of the logit lens


def interpret_run(config: Config, workdir: str | Path, step: int | None, text: str) -> Path:
    """Measures a checkpoint on validation windows, and draws its figures on ``text`` (the first of those windows if empty).

    Returns the directory: scores.json, and the pictures as PNG and SVG.

    Raises:
      UserError: there is no such run or checkpoint, or text for a run whose tokens are none.
      StorageError: the run directory cannot be written.
    """
    run = open_run(to_read(config), workdir, form="text")
    step, state, _ = run.load(step)
    directory = make_folder(run.workdir / "interpret")
    model = run.config.model
    params = unrolled(run.params(state))
    windows = max(1, min(WINDOWS, TOKENS // model.context))
    batch = {name: jnp.asarray(value) for name, value in run.data.valid.fixed(windows, 1)[0].items()}
    shown = _tokens(run, text) if text else batch["tokens"][0, :SHOWN]
    scores: dict[str, Any] = {"step": step, "windows": windows}
    pictures = _stream(run, params, batch, shown, scores)
    try:
        pictures |= _heads(run, params, batch, shown, scores)
    except UserError as refusal:
        scores["attention"] = str(refusal.what)
    for name, figure in pictures.items():
        save(figure, directory / name)
    write_json(directory / "scores.json", scores)
    return directory


def _stream(run: Run, params: dict, batch: dict, shown: jax.Array, scores: dict) -> dict[str, Any]:
    model = run.config.model
    losses_BT = np.asarray(residual_stream.token_losses(model, params, batch["tokens"], batch["targets"]))
    counted_BT = np.asarray(batch["weights"]) > 0
    losses = np.ma.masked_array(losses_BT, ~counted_BT)
    error_T = losses.std(0) / np.sqrt(np.maximum(counted_BT.sum(0), 1))
    logs_LTV = np.asarray(residual_stream.logit_lens(model, params, shown[None, :GUESSED])[:, 0])
    labels = [attention.label(run.data.tokenizer, i) for i in shown[:GUESSED]]
    guesses = [[attention.label(run.data.tokenizer, i) for i in row] for row in logs_LTV.argmax(-1)]
    deviations_LD = spectra.activation_spectra(np.asarray(residual_stream.streams(model, params, batch["tokens"])))
    weights = spectra.weight_spectra(params)
    scores["loss"] = float(losses.mean())
    scores["loss_by_token"] = losses.mean(0).filled(np.nan).tolist()
    scores["effective_rank"] = {
        "stream by layer": [spectra.effective_rank(row) for row in deviations_LD],
        **{name: spectra.effective_rank(values) for name, values in weights.items()},
    }
    layers = {f"after layer {i - 1}" if i else "embedding": row for i, row in enumerate(deviations_LD)}
    return {
        "losses": figures.losses(losses.mean(0), losses.mean(0) - error_T, losses.mean(0) + error_T),
        "lens": figures.lens(guesses, np.exp(logs_LTV.max(-1)), labels),
        "stream_spectrum": figures.spectra(layers, "deviation along principal directions / largest"),
        "weight_spectrum": figures.spectra(weights, "singular values / largest"),
    }


def _heads(run: Run, params: dict, batch: dict, shown: jax.Array, scores: dict) -> dict[str, Any]:
    model, tokens = run.config.model, batch["tokens"]
    found = _scores(model, params, tokens)
    found["loss_without_head"] = ablate.head_effects(model, params, tokens, batch["targets"], batch["weights"])
    scores["heads"] = {name: np.asarray(values).tolist() for name, values in found.items()}
    titles = {
        "prefix_matching": "attention to what followed the same token before",
        "previous_token": "attention to the token before",
        "loss_without_head": "nats more without the head",
    }
    drawn = {
        name: figures.table(np.asarray(found[name]), title, "head", "layer", signed=name == "loss_without_head")
        for name, title in titles.items()
    }
    labels = [attention.label(run.data.tokenizer, i) for i in shown]
    return drawn | {"attention": figures.heads(np.asarray(attention.maps(model, params, shown[None])[:, 0]), labels)}


def _scores(model: ModelConfig, params: dict, tokens_BT: jax.Array) -> dict[str, jax.Array]:
    """Means over parts of the windows whose maps fit into memory."""
    parts = max(1, math.ceil(tokens_BT.size * tokens_BT.shape[1] * model.layers * model.heads / MOST_WEIGHTS))
    found = []
    for part_BT in jnp.array_split(tokens_BT, min(parts, len(tokens_BT))):
        maps_MBNTS = attention.maps(model, params, part_BT)
        found.append(
            {
                "prefix_matching": attention.prefix_matching(maps_MBNTS, part_BT),
                "previous_token": attention.previous_token(maps_MBNTS),
                "duplicate_token": attention.duplicate_token(maps_MBNTS, part_BT),
                "attention_entropy": attention.entropy(maps_MBNTS),
            }
        )
    return jax.tree.map(lambda *values: sum(values) / len(values), *found)


def _tokens(run: Run, text: str) -> jax.Array:
    if run.data.tokenizer is None:
        raise UserError("this run's tokens are not text", where="--text", fix="leave it out")
    ids = run.data.tokenizer.encode(text)
    if not 2 <= len(ids) <= run.config.model.context:
        raise UserError(
            f"the text has {len(ids)} tokens", where="--text", allowed=f"2 to {run.config.model.context} tokens"
        )
    return jnp.asarray(ids)
