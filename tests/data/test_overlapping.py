"""Windows that overlap: every target counts once, after as many tokens as the stride leaves."""

import json
import math
import re

import numpy as np
import pytest

import gpt_jax
import launch
from gpt_jax.data.open import open_data
from gpt_jax.errors import UserError
from tests.data.test_data_batches import numbers, split_of
from tests.train import tiny


def counted(split, stride, batch=3):
    """(target, tokens of its window before it) of every target that counts, in order."""
    fixed, found = split.overlapping(stride).fixed(batch, 0), []
    for k in range(len(fixed)):
        rows = fixed[k]
        for targets_T, weights_T in zip(rows["targets"], rows["weights"], strict=True):
            found += [(int(target), t + 1) for t, target in enumerate(targets_T) if weights_T[t]]
    return found


@pytest.mark.parametrize("size", [9, 10, 12, 17, 40, 41])
@pytest.mark.parametrize("stride", [1, 3, 5, 8])
def test_every_target_counts_once(size, stride):
    context = 8
    found = counted(split_of(numbers(size, context)), stride)
    assert [target for target, _ in found] == list(range(1, size))
    assert all(before == min(target, before) for target, before in found)
    assert all(before > context - stride for target, before in found if target > context)
    assert all(before == target for target, before in found if target <= context)


def test_documents_stay_apart():
    plain = counted(split_of(numbers(30, 8, starts=(0, 13), segments=True)), 3)
    assert [target for target, _ in plain] == [target for target in range(1, 30) if target != 13]


def test_no_stride_is_the_split_itself():
    split = split_of(numbers(20, 8))
    assert split.overlapping(0).windows == split.windows


@pytest.mark.parametrize("source", ["copy", "arithmetic(count=50, valid=20)"])
def test_only_running_text_overlaps(make_config, source):
    data = open_data(make_config(source=source, tokenizer="bytes", context=33))
    with pytest.raises(UserError, match="only running text"):
        data.valid.overlapping(2)


def test_a_stride_that_leaves_tokens_out_is_refused():
    with pytest.raises(UserError, match="leave tokens out"):
        split_of(numbers(20, 8)).overlapping(9)


def test_the_verb_counts_as_a_loop_does(tmp_path, capsys):
    workdir, text = tmp_path / "run", tiny.write_text(tmp_path)
    changes = {"train__batch": 8, "train__steps": 4, "train__eval_every": 4, "train__eval_stride": 4}
    assert launch.main(tiny.command(text, workdir, **changes, train__eval_batches=0)) == 0
    capsys.readouterr()
    losses = {}
    for stride in (0, 4, 16):
        assert launch.main(["eval", f"--workdir={workdir}", f"--config.eval.stride={stride}"]) == 0
        said = capsys.readouterr().out
        tokens = int(re.search(r"([\d,]+) tokens", said)[1].replace(",", ""))
        losses[stride] = tokens, float(re.search(r"loss +([\d.]+)", said)[1])
        assert ("begin 4 apart, each token counted once, each with at least 12 before" in said) is (stride == 4)
    model = gpt_jax.load(workdir)
    data = open_data(model.config)
    ids = np.concatenate([data.valid.fixed(1, 0)[k]["tokens"][0] for k in range(len(data.valid.fixed(1, 0)))])
    whole = np.concatenate(
        [ids, data.valid.windows[0].gather(np.array([0]), np.array([data.valid.tokens - 17]))["targets"][0]]
    )
    tail = data.valid.tokens - len(ids)
    ids = np.concatenate([ids, whole[len(whole) - tail :]])
    assert len(ids) == data.valid.tokens
    nats, begin = [], 0
    while len(nats) < len(ids) - 1:
        found = np.asarray(model.loss(ids[begin : begin + 17])).tolist()
        nats += found[len(nats) - begin :]
        begin = min(begin + 4, len(ids) - 17)
    assert losses[4][0] == losses[16][0] == len(ids) - 1
    assert math.isclose(losses[4][1], np.mean(nats), rel_tol=1e-5)
    assert losses[0][0] == (len(ids) - 1) // 16 * 16
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    (validation,) = [record["valid/loss"] for record in records if "valid/loss" in record]
    assert math.isclose(validation, losses[4][1], rel_tol=1e-5)
