"""A text of any length, read part by part: what the uncached model says of each token, none lost and none twice."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

import gpt_jax
import launch
from gpt_jax.errors import UserError
from gpt_jax.sample import chunks
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.platform import CPU
from tests.model.variants import config, logits, parameters
from tests.train import tiny

CONTEXT, LENGTH = 12, 75
SMALL_PARTS = dataclasses.replace(CPU, chunk=16)
TEXT = np.random.default_rng(0).integers(config().vocab, size=LENGTH).tolist()
KEEP_THE_SAME = [
    ("retention", "rope(theta=100.0)"),
    ("linear", "rope(theta=100.0)"),
    ("gated_delta", "none"),
    ("sliding(window=5)", "alibi"),
    ("sliding(window=20)", "rope(theta=100.0)"),
    (("sliding(window=3)", "retention"), "rope(theta=100.0)"),
]


def read(c, way="", stride=0, text=TEXT):
    return chunks.read(Decoder(c, parameters(c), SMALL_PARTS), text, way, stride)


def at_once(c, text=TEXT, **changes):
    """The log-probabilities of tokens 1 to N-1, by a model whose context is long enough."""
    long = dataclasses.replace(c, context=len(text), **changes)
    scores_TV = np.asarray(jax.nn.log_softmax(logits(long, parameters(c), np.array([text[:-1]]))[0]))
    return scores_TV[np.arange(len(text) - 1), text[1:]]


@pytest.mark.every(3)
@pytest.mark.parametrize("attention, position", KEEP_THE_SAME)
@pytest.mark.parametrize("length", [LENGTH, 17, 2])
def test_what_layers_keep_is_carried_on_exactly(attention, position, length):
    c = config(context=CONTEXT, attention=attention, position=position)
    found = read(c, text=TEXT[:length])
    assert found.way == "state"
    np.testing.assert_allclose(found.logprobs, at_once(c, TEXT[:length]), atol=1e-4)


def test_a_text_that_rolls_on_is_that_of_a_sliding_window():
    c = config(context=CONTEXT, position="rope(theta=100.0)")
    sliding = dict(attention=f"sliding(window={CONTEXT})")
    np.testing.assert_allclose(read(c, "roll").logprobs, at_once(c, **sliding), atol=1e-4)


@pytest.mark.parametrize("stride", [0, 1, 5, CONTEXT])
@pytest.mark.parametrize("length", [LENGTH, CONTEXT + 1, CONTEXT + 2, 5])
def test_windows_are_those_of_a_loop(stride, length):
    c, text = config(context=CONTEXT, position="learned"), TEXT[:length]
    found = read(c, "", stride, text)
    assert found.way == "windows" and found.before == CONTEXT - (stride or CONTEXT)
    expected, begin = [], 0
    while len(expected) < length - 1:
        window = text[begin : begin + CONTEXT + 1]
        whole = np.zeros((1, CONTEXT), np.int32)
        whole[0, : len(window) - 1] = window[:-1]
        scores_TV = np.asarray(jax.nn.log_softmax(logits(c, parameters(c), whole)[0]))
        said = scores_TV[np.arange(len(window) - 1), window[1:]].tolist()
        fresh = begin + len(window) - 1 - len(expected)
        expected += said[len(said) - fresh :]
        begin = min(begin + (stride or CONTEXT), max(0, length - 1 - CONTEXT))
    np.testing.assert_allclose(found.logprobs, expected, atol=1e-4)


@pytest.mark.parametrize(
    "changes, way, stride, what",
    [
        ({"position": "learned", "attention": "retention"}, "state", 0, "positions end at"),
        ({"position": "rope"}, "state", 0, "looks back at any number"),
        ({"position": "rope"}, "window", 0, "no way 'window'"),
        ({"position": "rope"}, "", 13, "leave tokens out"),
        ({"position": "rope"}, "roll", 4, "has no stride"),
    ],
)
def test_a_way_that_a_model_cannot_go_is_refused(changes, way, stride, what):
    with pytest.raises(UserError, match=what):
        read(config(context=CONTEXT, **changes), way, stride)


@pytest.mark.parametrize("text, what", [([3], "one token"), ([3, 10**6], "outside the vocabulary")])
def test_what_is_no_text_is_refused(text, what):
    with pytest.raises(UserError, match=what):
        read(config(context=CONTEXT), text=text)


def test_the_verb_reads_a_file(tmp_path, capsys):
    workdir = tmp_path / "run"
    changes = {"train__batch": 8, "train__steps": 4}
    assert launch.main(tiny.command(tiny.write_text(tmp_path), workdir, **changes)) == 0
    (tmp_path / "long.txt").write_text("the cat sät on a mat. " * 20)
    capsys.readouterr()
    asked = ["eval", f"--workdir={workdir}", f"--text={tmp_path / 'long.txt'}", "--config.eval.stride=4"]
    assert launch.main([*asked, f"--losses={tmp_path / 'new' / 'losses.jsonl'}"]) == 0
    said = capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "new" / "losses.jsonl").read_text().splitlines()]
    model = gpt_jax.load(workdir)
    ids = model.tokenizer.encode((tmp_path / "long.txt").read_text()).tolist()
    assert [row["id"] for row in rows] == ids[1:]
    mean = np.mean([row["loss"] for row in rows])
    assert f"{len(ids) - 1:,} tokens, in windows of 16 that begin 4 apart" in said and f"{mean:.6f} nats" in said
    assert f"{mean / math.log(2):.4f}" in said.split("bits per byte")[1]
    np.testing.assert_allclose(-model.read(ids, stride=4).logprobs, [row["loss"] for row in rows], rtol=1e-5)
    np.testing.assert_allclose(-model.read(ids[:17]).logprobs, np.asarray(model.loss(ids[:17])), atol=1e-5)
    for wrong in ([asked[0], asked[1], "--way=roll"], [*asked, "--tasks=lm_eval:x"]):
        assert launch.main(wrong) == 2
    (tmp_path / "long.txt").write_bytes(b"\xff")
    assert launch.main(asked) == 2 and "not UTF-8" in capsys.readouterr().err
