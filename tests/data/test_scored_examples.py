"""What is computed of examples: their loss however they are packed, and how many are right."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gpt_jax.data.open import open_data
from gpt_jax.model.gpt import GPT
from gpt_jax.train import token_scores
from gpt_jax.train.objectives import lm
from tests.data.test_examples import written
from tests.train import tiny


def test_an_example_has_the_same_loss_packed_and_alone(make_config, tmp_path):
    rows = [{"prompt": f"{i:03}" * (1 + i % 2), "completion": "c" * (1 + i % 7) + str(i)} for i in range(24)]
    call = written(tmp_path / "r.jsonl", rows)
    config = tiny.config(model__context=32, model__vocab=257, model__position="learned", model__layers=2)
    model = GPT(config.model, nnx.Rngs(params=jax.random.key(0)))

    @jax.jit
    def scores(batch):
        logits = model(batch["tokens"], batch["positions"], batch["segments"])
        return token_scores.log_probs(logits, batch["targets"])

    found = []
    for pack in ("concat", "segments", "padded"):
        data = open_data(make_config(source=call, tokenizer="bytes", context=32, pack=pack))
        split, losses = data.train.fixed(4, 0), {}
        for k in range(len(split)):
            batch, scored = split[k], np.asarray(scores(split[k]))
            for row, number in itertools.product(range(4), range(1, 10)):
                inside = (batch["segments"][row] == number) & (batch["weights"][row] > 0)
                if inside.any():
                    losses[bytes(batch["targets"][row][inside].astype(np.uint8))] = -scored[row][inside].sum()
        found.append(losses)
    assert len(found[0]) > 15 and all(losses.keys() == found[0].keys() for losses in found)
    for losses in found[1:]:
        assert max(abs(losses[name] - found[0][name]) / found[0][name] for name in losses) < 1e-6


def test_exact_matches_are_counted_among_examples_alone():
    """A row of two examples, of which one is right, and a row of running text."""

    class Forward:
        def hits(self, batch):
            return jnp.array([[True, True, True, False], [True, True, True, True]])

    batch = {
        "weights": jnp.array([[0, 1, 0, 1], [1, 1, 1, 1]], jnp.float32),
        "segments": jnp.array([[1, 1, 2, 2], [1, 1, 1, 1]]),
        "examples": jnp.array([2, 0]),
    }
    assert lm._exact(Forward(), batch) == {"examples": 2, "exact": 1}
