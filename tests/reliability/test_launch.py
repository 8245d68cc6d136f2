"""A few of the trials that ``python -m tests.reliability.launch`` does many of, of two processes."""

import pytest

from tests.reliability import launch


@pytest.mark.parametrize("what", ["kill", pytest.param("stop", marks=pytest.mark.slow)])
def test_a_launch_that_loses_a_process_ends_and_goes_on(tmp_path, what):
    assert launch.campaign(tmp_path, {what: 1}, seed=1, processes=2) == {what: [[]]}
