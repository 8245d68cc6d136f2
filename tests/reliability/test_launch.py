"""A few of the trials that ``python -m tests.reliability.launch`` does many of, of two processes."""

from tests.reliability import launch


def test_a_launch_that_loses_a_process_ends_and_goes_on(tmp_path):
    found = launch.campaign(tmp_path, {"kill": 1, "stop": 1}, seed=1, processes=2)
    assert found == {"kill": [[]], "stop": [[]]}
