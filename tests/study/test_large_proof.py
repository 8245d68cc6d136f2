"""The experiment that wants GPUs and ten billion tokens, at toy size on tokens that are made here."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from gpt_jax.configs import gpt2
from gpt_jax.errors import UserError
from gpt_jax.overrides import changed
from gpt_jax.study.compare import claims, protocol
from gpt_jax.study.compare.statistics import INCONCLUSIVE
from gpt_jax.study.run import Execution, run
from gpt_jax.study.sweep.sweep import jobs, load
from gpt_jax.train.run import open_run

FILE = Path("experiments/gpt2_124m.py")
TOY = {
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.context": 16,
    "model.vocab": 64,
    "train.steps": 20,
    "train.batch": 8,
    "train.eval_every": 2,
    "train.save_every": 20,
    "optim.warmup": 2,
    "train.tensorboard": False,
}


def write(path: Path, count: int) -> None:
    """Tokens in llm.c's format."""
    header = np.zeros(256, np.int32)
    header[:3] = 20240520, 1, count
    ids = np.random.default_rng(count).integers(0, 64, count).astype(np.uint16)
    path.write_bytes(header.tobytes() + ids.tobytes())


def test_it_runs_to_its_verdict(tmp_path):
    write(tmp_path / "mine_train_000001.bin", 4000)
    write(tmp_path / "mine_val_000000.bin", 4000)
    knobs = {**TOY, "data.source": f"tokens(path={str(tmp_path)!r}, vocab=64, separator=0)"}
    whole = load(FILE)
    made = dataclasses.replace(whole, base=changed(whole.base, knobs))
    results = run(made, Execution(FILE, tmp_path / "sweep", jobs=1))
    (found,) = claims.read(results.workdir).findings
    assert protocol.lacking(found) == [] and len(found.values) == 3
    assert 3.9 < found.mean < 4.5 and found.low < found.mean  # random tokens: log(64) = 4.16
    assert found.verdict == INCONCLUSIVE and "before the end" in found.faulty[0]  # far off, and so is its control
    assert [len(control.values) for control in found.controls] == [3, 3]


def test_its_model_is_gpt2(tmp_path):
    (one, *_) = jobs(load(FILE))
    published = gpt2.get_config("124m").model
    same = ("layers", "width", "heads", "vocab", "context", "tied", "bias", "mlp", "norm", "position")
    assert all(getattr(one.config.model, knob) == published[knob] for knob in same)
    assert one.config.train.batch * one.config.model.context == 524_288
    with pytest.raises(UserError, match="fineweb10B"):
        open_run(one.config, tmp_path)
