"""A loss or gradient that is not finite never reaches the parameters, and the command says where it came from."""

import jax
import numpy as np
import pytest

from tests.reliability.kill import arrays, records
from tests.train import tiny

# The first update throws the parameters to 1e30, where the second step's loss is not a number.
EXPLODING = dict(optim__lr=1e30, optim__clip=0, optim__warmup=0, train__steps=5, train__save_every=1, train__keep=9)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    text = tiny.write_text(folder)
    ways = ("stop", "skip")
    commands = [(tiny.command(text, folder / way, **EXPLODING, train__on_nonfinite=way), 0) for way in ways]
    return {way: (folder / way, *result) for way, result in zip(ways, tiny.launch(*commands), strict=True)}


def saved(workdir) -> list[int]:
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


def test_stop_ends_with_76_and_names_the_step_and_the_tensor(runs):
    workdir, code, said = runs["stop"]
    assert code == 76 and "error: step 2: loss nan" in said and "Traceback" not in said
    assert "first bad tensor: gradient of blocks/0/attention/" in said and str(workdir) in said
    assert [record["step"] for record in records(workdir)] == [1]


def test_stop_leaves_the_last_good_state(runs):
    workdir, *_ = runs["stop"]
    assert saved(workdir) == [1]
    assert all(np.isfinite(value).all() for value in arrays(workdir, 1).values())


def test_skip_goes_on_and_counts(runs):
    workdir, code, said = runs["skip"]
    assert code == 0, said
    assert said.count("this update is skipped") == 4 and "step 2: loss nan" in said
    shown = {record["step"]: record["train/skipped"] for record in records(workdir) if "train/skipped" in record}
    assert shown == {1: 0, 2: 1, 3: 2, 4: 3, 5: 4}


def test_skip_leaves_all_but_the_counters_as_they_were(runs):
    workdir, *_ = runs["skip"]
    first, last = arrays(workdir, 1), arrays(workdir, 5)
    assert (int(last.pop("step")), int(last.pop("skipped"))) == (5, 4)
    for path, value in last.items():
        assert np.isfinite(value).all() and np.array_equal(value, first[path]), path


@pytest.mark.parametrize("way", ["stop", "skip"])
def test_one_bad_batch(way):
    """After it, "skip" trains on; "stop" changes nothing more, so that the state that is saved is the one before it."""
    c = tiny.config(train__on_nonfinite=way, optim__ema=0.5)
    (state, step), (good,) = tiny.start(c), tiny.batches(1)
    bad = good | {"weights": np.full_like(good["weights"], np.inf)}
    contents = lambda state: jax.tree.map(np.array, {k: state[k] for k in ("params", "opt", "ema")})
    same = lambda a, b: jax.tree.all(jax.tree.map(np.array_equal, a, b))
    state, _ = step(state, good)
    before = contents(state)
    state, metrics = step(state, bad)
    assert not np.isfinite(float(metrics["loss"])) and same(contents(state), before)
    state, metrics = step(state, good)
    assert (int(state["step"]), int(state["skipped"])) == (3, 1 if way == "skip" else 2)
    assert same(contents(state), before) == (way == "stop") and np.isfinite(float(metrics["loss"]))
