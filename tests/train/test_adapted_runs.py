"""A run with an adapter is a run like any other: resumed, moved, damaged, read, exported."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import gpt_jax
import launch
from gpt_jax.config import Config
from gpt_jax.errors import StorageError
from gpt_jax.run_directory import read_config
from gpt_jax.train.checkpoint import manifest
from gpt_jax.train.starting import parameters
from gpt_jax.tree_paths import path_of
from tests.train import tiny

KNOBS = {name: value for name, value in tiny.KNOBS.items() if not name.startswith("sample.")}
KNOBS |= {"train.batch": 8, "train.steps": 4, "train.save_every": 2, "train.keep": 9, "sample.prompts": ()}
KNOBS |= {"model.layers": 2, "model.context": 32, "optim.lr": 1e-2, "optim.ema": 0.9, "optim.warmup": 0}
ADAPTER = "dora(rank=2, full='^norm')"


def records(workdir: Path) -> list[dict]:
    """What was recorded, without times."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if "loss" in name or name == "step"} for row in rows]


def arrays(workdir: Path, step: int) -> dict[str, np.ndarray]:
    config = Config.from_dict(read_config(workdir))
    _, tree = parameters.trained_of_run(config, workdir, step)
    return {path_of(keys): np.asarray(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def base_of(workdir: Path) -> dict[str, np.ndarray]:
    return parameters.by_path(parameters.read_base(Config.from_dict(read_config(workdir)), workdir))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, dict]:
    """A folder with a run "q" and a run "lora" that starts from it, and their settings."""
    folder = tmp_path_factory.mktemp("runs")
    settings = KNOBS | {"data.source": f"text(path={str(tiny.write_text(folder))!r})", "data.cache": str(folder / "c")}
    gpt_jax.train("base", folder / "q", settings)
    tuned = settings | {"tune.start": str(folder / "q"), "tune.adapter": ADAPTER, "optim.lr": 3e-2}
    gpt_jax.train("base", folder / "lora", tuned)
    return folder, tuned


def test_only_the_adapter_is_in_checkpoints(runs):
    folder, _ = runs
    saved = manifest.read(folder / "lora" / "checkpoints" / "4").leaves
    kinds = {path.split("/")[0] for path, _, _ in saved}
    assert kinds == {"step", "skipped", "params", "opt", "ema"}
    names = ("lora_a", "lora_b", "magnitude")
    others = {path for path, shape, _ in saved if shape and path.split("/")[-1] not in names}
    assert others == {
        f"{place}/norm/{leaf}" for place in ("params", "ema", "opt/mu", "opt/nu") for leaf in ("scale", "bias")
    }
    _, start = parameters.of_run(Config.from_dict(read_config(folder / "q")), folder / "q", None)
    assert all(np.array_equal(leaf, start[path]) for path, leaf in base_of(folder / "lora").items())
    losses = [row["valid/loss"] for row in records(folder / "lora") if "valid/loss" in row]
    assert losses[-1] < [row["valid/loss"] for row in records(folder / "q") if "valid/loss" in row][-1]


def test_a_moved_run_resumes_to_the_bit_and_needs_no_start(runs, tmp_path):
    folder, tuned = runs
    shutil.copytree(folder / "lora", tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "checkpoints" / "4")
    rows = (tmp_path / "moved" / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "moved" / "metrics.jsonl").write_text(
        "".join(f"{row}\n" for row in rows if json.loads(row)["step"] <= 2)
    )
    (folder / "q").rename(folder / "away")
    try:
        gpt_jax.train("base", tmp_path / "moved", tuned)
    finally:
        (folder / "away").rename(folder / "q")
    assert records(tmp_path / "moved")[-1] == records(folder / "lora")[-1]
    expected = arrays(folder / "lora", 4)
    assert all(np.array_equal(leaf, expected[path]) for path, leaf in arrays(tmp_path / "moved", 4).items())


def test_a_base_of_a_start_that_was_killed_is_replaced(runs, tmp_path):
    """Whole or not, of this start or another."""
    folder, tuned = runs
    stale = tmp_path / "again" / "base" / "checkpoints"
    shutil.copytree(folder / "lora" / "base" / "checkpoints" / "0", stale / "tmp-0-00c0ffee")
    other = jax.tree.map(
        lambda leaf: leaf + 1, parameters.read_base(Config.from_dict(read_config(folder / "lora")), folder / "lora")
    )
    parameters.write_base(tmp_path / "other", other)
    (tmp_path / "other" / "base" / "checkpoints" / "0").rename(stale / "0")
    gpt_jax.train("base", tmp_path / "again", tuned)
    assert [path.name for path in stale.iterdir()] == ["0"]
    found = base_of(tmp_path / "again")
    assert all(np.array_equal(leaf, found[path]) for path, leaf in base_of(folder / "lora").items())
    assert records(tmp_path / "again") == records(folder / "lora")


def damage(base: Path) -> None:
    path = max((path for path in base.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [damage, shutil.rmtree], ids=["damaged", "missing"])
def test_a_lost_base_is_named(runs, tmp_path, harm, capsys):
    folder, tuned = runs
    shutil.copytree(folder / "lora", tmp_path / "lora")
    harm(tmp_path / "lora" / "base")
    assert launch.main(["sample", f"--workdir={tmp_path / 'lora'}", "--prompt=the"]) == 74
    assert f"{tmp_path / 'lora' / 'base'}" in capsys.readouterr().err
    for act in (gpt_jax.load, lambda workdir: gpt_jax.train("base", workdir, tuned | {"train.steps": 4})):
        with pytest.raises(StorageError, match="that the run began with cannot be read"):
            act(tmp_path / "lora")


def test_every_reader_gets_the_model_with_its_adapter(runs, tmp_path, capsys):
    folder, _ = runs
    model, start = gpt_jax.load(folder / "lora"), gpt_jax.load(folder / "q")
    assert np.abs(model.logits("the cat") - start.logits("the cat")).max() > 1e-3
    assert launch.main(["sample", f"--workdir={folder / 'lora'}", "--prompt=the ", "--sample.temperature=0"]) == 0
    assert str(model.generate("the ", temperature=0)) in capsys.readouterr().out
    assert launch.main(["eval", f"--workdir={folder / 'lora'}", "--config.eval.batches=2"]) == 0
    said = capsys.readouterr().out
    last = [row["valid/loss"] for row in records(folder / "lora") if "valid/loss" in row][-1]
    assert f"{last:.6f}" in said
    assert launch.main(["export", f"--workdir={folder / 'lora'}", f"--to={tmp_path / 'hf'}"]) == 0
    again = gpt_jax.load(tmp_path / "hf")
    np.testing.assert_allclose(again.logits([1, 2, 3]), model.logits([1, 2, 3]), atol=1e-5)


def test_the_plan_counts_what_is_trained(runs, capsys):
    folder, tuned = runs
    flags = [f"--config.{name}={value}" for name, value in tuned.items()]
    assert launch.main(["plan", "--config=base", *flags, "--config.model.vocab=256"]) == 0
    said = capsys.readouterr().out
    counted = sum(leaf.size for leaf in arrays(folder / "lora", 4).values())
    assert f"trained         {counted:,}\n" in said and "\n  base " in said


def test_the_plan_counts_a_teacher(runs, capsys):
    folder, tuned = runs
    own = {"tune.start": "", "tune.adapter": "none", "tune.objective": f"distill(teacher={str(folder / 'q')!r})"}
    flags = [f"--config.{name}={value}" for name, value in {**tuned, **own, "model.layers": 1}.items()]
    assert launch.main(["plan", "--config=base", *flags, "--config.model.vocab=256"]) == 0
    said = capsys.readouterr().out
    _, teacher = parameters.of_run(Config.from_dict(read_config(folder / "q")), folder / "q", None)
    size = sum(array.nbytes for array in teacher.values())
    assert f"\n  teacher         {size / 1024:.2f} KiB" in said
    assert launch.main(["plan", "--config=base", *flags, "--config.tune.objective=distill(teacher='gone')"]) == 2
    assert "there is no directory gone" in capsys.readouterr().err
