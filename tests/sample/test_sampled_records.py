"""Records of what is sampled: their form, files of them that are continued, and files that are left alone."""

import fcntl
import json
import os
from dataclasses import replace

import pytest

from gpt_jax.errors import UserError
from gpt_jax.sample.outputs.records import Records
from gpt_jax.sample.text import sample_command
from tests.model.variants import parameters
from tests.sample.test_outputs import LETTERS, MODEL, SAMPLE, Letters


def command(capsys, sample=SAMPLE, records=None, output="jsonl", **given):
    prompts = {name: given.get(name) for name in ("prompt", "prompt_ids", "prompts")}
    sample_command(MODEL, parameters(MODEL), Letters(), sample, prompts, output, True, records)
    return capsys.readouterr().out


def test_records_keep_their_form(capsys):
    plain = json.loads(command(capsys, prompt="ab"))
    assert list(plain) == ["prompt", "text", "prompt_ids", "ids", "logprobs", "finish_reason"]
    asked = json.loads(command(capsys, prompt="ab", sample=replace(SAMPLE, logprobs=3, prompt_logprobs=True)))
    assert {"final_logprobs", "entropy", "top_ids", "top_logprobs", "final_top_logprobs"} < set(asked)
    several = command(capsys, prompt="ab", sample=replace(SAMPLE, num_return_sequences=2)).splitlines()
    assert [json.loads(line)["sample"] for line in several] == [0, 1] and json.loads(several[0])["ids"] == plain["ids"]


@pytest.fixture
def file_of_prompts(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": "ab"[: 1 + i % 2] + LETTERS[i]}) + "\n" for i in range(6)))
    return str(path)


def test_a_file_of_records_is_continued(capsys, file_of_prompts, tmp_path):
    """Wherever it was cut, it ends as the uninterrupted one; what is there is not written again. Log-probabilities are
    rounded as the rows side by side have it, in their last digits."""
    records = Records(tmp_path / "there" / "out.jsonl", "m")
    assert command(capsys, records=records, prompts=file_of_prompts) == ""
    whole = records.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    shown = [json.loads(line) for line in command(capsys, prompts=file_of_prompts).splitlines()]
    assert [{k: v for k, v in json.loads(line).items() if k != "settings"} for line in lines] == shown
    assert len(lines) == 6
    for cut in (5, len(lines[0]), len(lines[0]) + len(lines[1]) + 7, len(whole) - 1, len(whole)):
        records.path.write_bytes(whole[:cut])
        command(capsys, records=records, prompts=file_of_prompts)
        now, kept = records.path.read_bytes(), whole.rindex(b"\n", 0, cut) + 1 if b"\n" in whole[:cut] else 0
        assert now[:kept] == whole[:kept] and _without_logprobs(now) == _without_logprobs(whole), cut
    inode = records.path.stat().st_ino
    command(capsys, records=records, sample=replace(SAMPLE, rows=1), prompts=file_of_prompts)
    assert records.path.stat().st_ino == inode and records.path.read_bytes() == now


def _without_logprobs(lines):
    return [{k: v for k, v in json.loads(line).items() if k != "logprobs"} for line in lines.splitlines()]


def test_a_file_of_other_records_is_refused_and_left_alone(capsys, file_of_prompts, tmp_path):
    records = Records(tmp_path / "out.jsonl", "m")
    command(capsys, records=records, prompts=file_of_prompts)
    whole = records.path.read_bytes()
    others = [
        (replace(records, model="n"), SAMPLE, file_of_prompts, "line 1 of"),
        (records, replace(SAMPLE, top_k=4), file_of_prompts, "line 1 of"),
        (records, replace(SAMPLE, seed=4), file_of_prompts, "line 1 of"),
    ]
    for other, sample, prompts, words in others:
        with pytest.raises(UserError, match=words):
            command(capsys, records=other, sample=sample, prompts=prompts)
    with pytest.raises(UserError, match="6 texts, and 1 are asked for"):
        command(capsys, records=records, prompt="aa")
    assert records.path.read_bytes() == whole
    records.path.write_text("notes of mine")
    with pytest.raises(UserError, match="line 1 of"):
        command(capsys, records=records, prompts=file_of_prompts)
    assert records.path.read_text() == "notes of mine"


def test_two_processes_do_not_write_to_one_file(capsys, file_of_prompts, tmp_path):
    records = Records(tmp_path / "out.jsonl", "m")
    with open(records.path, "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process"):
            command(capsys, records=records, prompts=file_of_prompts)
    assert os.path.getsize(records.path) == 0


def test_several_texts_of_a_search_are_no_file(capsys, tmp_path):
    records, path = Records(tmp_path / "out.jsonl", "m"), tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b", "n": 2}\n')
    beams = replace(SAMPLE, temperature=0.0, num_beams=4)
    with pytest.raises(UserError, match="cannot be continued") as error:
        command(capsys, records=records, sample=beams, prompts=str(path))
    assert f"{path}:2" in error.value.where and not records.path.exists()
