"""A few of the kills that ``python -m tests.reliability.kill`` does many of."""

from tests.reliability import kill


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    results = kill.campaign(tmp_path, kills=3, seed=1)
    assert sum(k.counts for result in results for k in result.kills) == 3
    assert [result.differences for result in results] == [[]] * len(results)
    # The save before the newest one may still be under way, so two intervals can be lost, and no more.
    assert all(k.step - k.saved <= 2 * kill.SAVE_EVERY for result in results for k in result.kills)
