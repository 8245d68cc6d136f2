"""What checkpoints give back: the same state, where it is wanted, fit for donation, and which of them are kept."""

import asyncio
import functools
import gc
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from gpt_jax.errors import UserError
from gpt_jax.train.checkpoint import manifest
from tests.train.states import abstract, assert_same, opened, saved, state_at


def test_what_is_restored_is_what_was_saved(tmp_path):
    state = state_at(7)
    checkpoints = opened(tmp_path)
    assert checkpoints.restore(abstract(state)) is None
    checkpoints.save(7, state, {"tokens": 700, "data": {"fingerprint": "f"}}, valid_loss=1.5)
    checkpoints.close()
    step, found, meta = opened(tmp_path).restore(abstract(state))
    assert (step, meta) == (7, {"tokens": 700, "data": {"fingerprint": "f"}})
    assert_same(found, state)
    listed = manifest.read(tmp_path / "checkpoints/7")
    assert listed.valid_loss == 1.5 and set(listed.versions) == {"jax", "jaxlib", "orbax-checkpoint"}
    assert ("params/blocks/0/b", (8,), "float32") in listed.leaves
    assert os.listdir(tmp_path / "checkpoints") == ["7"]


@pytest.mark.parametrize(("devices", "spec"), [(1, P()), (2, P("data")), (4, P(None)), (8, P("data"))])
def test_restoring_uses_the_shardings_asked_for(tmp_path, devices, spec):
    wanted = state_at(3, devices, spec)
    saved(tmp_path, 3)
    _, found, _ = opened(tmp_path).restore(abstract(wanted))
    assert_same(found, wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.sharding == b.sharding and a.committed == b.committed and a.weak_type == b.weak_type


def test_arrays_may_be_donated_as_soon_as_save_returns(tmp_path):
    grow = jax.jit(functools.partial(jax.tree.map, lambda x: x * 0 + 99), donate_argnums=0)
    state = {"w": jax.jit(lambda: jnp.arange(4_000_000, dtype=jnp.float32))()}
    checkpoints = opened(tmp_path)
    checkpoints.save(1, state, {})
    for _ in range(5):
        state = grow(state)
    jax.block_until_ready(state)
    checkpoints.wait()
    _, found, _ = checkpoints.restore(abstract(state))
    assert np.array_equal(np.asarray(found["w"]), np.arange(4_000_000, dtype=np.float32))


def test_restored_arrays_are_donated_like_any_others(tmp_path):
    _, found, _ = saved(tmp_path, 5).restore(abstract(state_at(5)))
    step = jax.jit(functools.partial(jax.tree.map, lambda x: x + 1), donate_argnums=0)
    fresh = state_at(5)
    before = [s.data.unsafe_buffer_pointer() for x in jax.tree.leaves(found) for s in x.addressable_shards]
    after = step(found)
    step(fresh)
    assert step._cache_size() == 1  # a restored state runs the program a fresh one runs
    assert all(x.is_deleted() for x in jax.tree.leaves(found))
    assert before == [s.data.unsafe_buffer_pointer() for x in jax.tree.leaves(after) for s in x.addressable_shards]


@pytest.mark.parametrize(
    ("keep", "keep_best", "left"),
    [(2, False, [4, 5]), (2, True, [2, 4, 5]), (1, True, [2, 5]), (9, True, [1, 2, 3, 4, 5])],
)
def test_the_newest_and_the_best_are_kept(tmp_path, keep, keep_best, left):
    checkpoints = opened(tmp_path, keep, keep_best)
    losses = {1: float("nan"), 2: 1.0, 3: 3.0, 4: None, 5: 2.0}
    for step, loss in losses.items():
        checkpoints.save(step, state_at(step), {}, loss)
    checkpoints.close()
    assert checkpoints.steps() == left == sorted(int(name) for name in os.listdir(tmp_path / "checkpoints"))


def test_a_step_that_exists_is_left_as_it_is(tmp_path):
    checkpoints = saved(tmp_path, 4)
    before = (tmp_path / "checkpoints/4/manifest.json").read_bytes()
    checkpoints.save(4, state_at(5), {})
    checkpoints.wait()
    assert (tmp_path / "checkpoints/4/manifest.json").read_bytes() == before


def test_metadata_is_taken_when_save_is_called(tmp_path):
    meta = {"tokens": 1}
    checkpoints = opened(tmp_path)
    checkpoints.save(1, state_at(1), meta)
    meta["tokens"] = 2
    checkpoints.wait()
    assert checkpoints.restore(abstract(state_at(1)))[2] == {"tokens": 1}
    with pytest.raises(TypeError):
        checkpoints.save(2, state_at(2), {"array": np.zeros(3)})
    assert checkpoints.steps() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s["params"].update(w=jnp.zeros((16, 25))),
            r"params/w is float32\[16,24\] there and float32\[16,25\]",
        ),
        (lambda s: s["params"].update(w=jnp.zeros((16, 24), jnp.bfloat16)), r"params/w .* and bfloat16\[16,24\]"),
        (lambda s: s["params"].update(v=jnp.zeros(3)), r"params/v is absent there and float32\[3\]"),
        (lambda s: s["params"].pop("w"), r"params/w is float32\[16,24\] there and absent"),
        (lambda s: s.update(opt=()), r"opt/0/count is int32\[\] there and absent"),
    ],
)
def test_the_state_of_another_model_is_the_users_error(tmp_path, change, message):
    checkpoints = saved(tmp_path, 1)
    other = state_at(1)
    change(other)
    with pytest.raises(UserError, match=message):
        checkpoints.restore(abstract(other))
    assert checkpoints.steps() == [1]


def test_a_step_that_never_was_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="(?s)no checkpoint of step 5.*allowed: 1, 2"):
        saved(tmp_path, 1, 2).restore(abstract(state_at(1)), step=5)


def test_a_named_step_is_restored(tmp_path):
    step, found, _ = saved(tmp_path, 1, 2).restore(abstract(state_at(1)), step=1)
    assert step == 1
    assert_same(found, state_at(1))


def test_a_reader_beside_a_training_run_sees_whole_states_only(tmp_path, caplog):
    checkpoints, stop = saved(tmp_path, 1, keep=1), threading.Event()

    def train():
        step = 2
        while not stop.is_set():
            checkpoints.save(step, state_at(step), {}, valid_loss=float(-step))
            step += 1

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        seen = []
        for _ in range(20):
            step, found, _ = opened(tmp_path, keep=1).restore(abstract(state_at(1)))
            assert_same(found, state_at(step))
            seen.append(step)
    finally:
        stop.set()
        trainer.join()
        checkpoints.close()
    assert seen == sorted(seen) and len(set(seen)) > 3
    assert not caplog.text and not list((tmp_path / "checkpoints").glob("corrupt-*"))


def test_what_asyncio_says_of_a_read_given_up_is_not_shown(tmp_path, caplog):
    """A state may be removed while it is read; the next one is read then, and orbax's other tasks fail unheard."""
    saved(tmp_path, 1).close()
    loop = asyncio.new_event_loop()
    for text in ('Metadata at "w/.zarray" in OCDBT database does not exist', "something else"):
        failed = loop.create_future()
        failed.set_exception(ValueError(text))
        del failed
        gc.collect()
    loop.close()
    assert "something else" in caplog.text and "OCDBT" not in caplog.text


def test_what_killed_runs_left_is_removed_by_who_asks_for_it(tmp_path):
    checkpoints = saved(tmp_path, 1)
    for name in ("tmp-2-0badcafe", "trash-0-0badcafe"):
        (tmp_path / "checkpoints" / name / "state").mkdir(parents=True)
    reader = opened(tmp_path)
    reader.restore(abstract(state_at(1)))
    assert len(os.listdir(tmp_path / "checkpoints")) == 3 and reader.steps() == [1]
    reader.remove_leftovers()
    assert checkpoints.steps() == [1] and os.listdir(tmp_path / "checkpoints") == ["1"]
