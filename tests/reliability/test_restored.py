"""A sample of ``python -m tests.reliability.restored``, which tries every pair of meshes."""

import pytest

from tests.reliability import restored

SAMPLE = [
    ("data=2 fsdp=4", "context=2 expert=2 pipeline=2"),
    ("context=2 expert=2 pipeline=2", "fsdp=2 tensor=4"),
]


def test_a_run_goes_on_on_another_mesh_with_the_same_state_and_batch(tmp_path):
    assert restored.meshes(tmp_path, SAMPLE) == []


@pytest.mark.slow
def test_a_run_goes_on_in_another_number_of_processes(tmp_path):
    assert restored.counts(tmp_path, [(2, 1)]) == []


def test_what_differs_is_named():
    one = {"step": 1, "state": {"['w']": "a"}, "batch": {"['tokens']": "b"}}
    other = {"step": 2, "state": {"['w']": "c"}, "batch": {"['tokens']": "b"}}
    assert restored.differences(other, one) == ["state['w']", "step"]
