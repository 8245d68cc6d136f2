"""The loss of a language model: cross-entropy of the next token, over the targets that count."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax.registry import register
from gpt_jax.train.objectives import Batch, Forward, Objective, Sums


@register("train.objectives", "lm")
class LanguageModel(Objective):
    """Pre-training and supervised fine-tuning alike: a prompt's targets have weight 0."""

    z_loss = True
    shown = {"loss": "nats/token", "bits_per_byte": "bits/byte", "exact_match": "exact match"}

    def higher_is_better(self, metric: str) -> bool:
        return metric == "exact_match"

    def count(self, batch: Batch) -> jax.Array:
        return batch["weights"].sum()

    def sums(self, forward: Forward, batch: Batch) -> Sums:
        return forward.cross_entropy(batch)

    def evaluation(self, forward: Forward, batch: Batch) -> Sums:
        sums = forward.cross_entropy(batch)
        found = {**{name: sums[name] for name in ("loss", "tokens")}, "bytes": bytes_of(forward, batch)}
        return found | _exact(forward, batch) if "examples" in batch else found

    def metrics(self, totals: dict[str, Any]) -> dict[str, float]:
        """{"loss" (nats per token), "perplexity", "tokens", "bits_per_byte" where tokens are text, "exact_match" of
        examples}."""
        values = per_token(totals)
        if "examples" in totals:
            values["exact_match"] = totals["exact"] / max(totals["examples"], 1)
        return values


def bytes_of(forward: Forward, batch: Batch) -> jax.Array:
    """The UTF-8 bytes that the targets that count stand for; 0 where tokens are not text."""
    assert forward.byte_lengths_V is not None
    return (forward.byte_lengths_V[batch["targets"]] * batch["weights"]).sum()


def per_token(totals: dict[str, Any]) -> dict[str, float]:
    """From sums of "loss" (nats), "tokens" and "bytes" to {"loss", "perplexity", "tokens", "bits_per_byte"}."""
    loss = totals["loss"] / max(totals["tokens"], 1)
    values = {"loss": loss, "perplexity": math.exp(min(loss, 700)), "tokens": int(totals["tokens"])}
    if totals["bytes"]:
        values["bits_per_byte"] = totals["loss"] / math.log(2) / totals["bytes"]
    return values


def _exact(forward: Forward, batch: Batch) -> Sums:
    """How many examples there are, and of how many every counted target is the model's likeliest token: what greedy decoding
    would write to the letter."""
    missed_BT = (~forward.hits(batch) & (batch["weights"] > 0)).astype(jnp.int32)
    rows, context = missed_BT.shape
    segments_BT = batch["segments"] if "segments" in batch else jnp.ones((rows, context), jnp.int32)
    row_B1 = jnp.arange(rows)[:, None]
    missed_BS = jnp.zeros((rows, context + 1), jnp.int32).at[row_B1, segments_BT].add(missed_BT)
    counted_BS = jnp.zeros_like(missed_BS).at[row_B1, segments_BT].add((batch["weights"] > 0).astype(jnp.int32))
    there_BS = (counted_BS > 0) & (batch["examples"][:, None] > 0)  # rows of running text have none
    return {"examples": there_BS.sum(), "exact": (there_BS & (missed_BS == 0)).sum()}
