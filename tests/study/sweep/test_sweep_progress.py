"""What the line of a run in a sweep says."""

import json

from gpt_jax.study.sweep.progress import last


def test_the_metric_of_the_sweep_or_the_training_loss_by_its_name(tmp_path):
    log = tmp_path / "metrics.jsonl"
    assert last(tmp_path, "valid/loss") == (0, "")
    rows = [{"step": step, "train/loss": 4 - step / 10} for step in (1, 2)]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert last(tmp_path, "valid/loss") == (2, "train/loss 3.8000")
    rows += [{"step": 2, "valid/loss": 3.9}, {"step": 3, "train/loss": 3.7}]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "train/lo')
    assert last(tmp_path, "valid/loss") == (3, "valid/loss 3.9000")
    assert last(tmp_path, "valid/bits_per_byte") == (3, "train/loss 3.7000")
