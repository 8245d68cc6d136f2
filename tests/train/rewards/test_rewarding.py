"""Several rewards: their names, weights and sum, and what is said of those that fail."""

import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.errors import USER_ERROR, UserError
from gpt_jax.train.rewards import WHERE
from gpt_jax.train.rollouts.rewarding import KIND, Rewards
from tests.train import tiny
from tests.train.rewards.completions import completion

GIVEN = [completion("red", answer="red"), completion("blue", answer="red", ended=False), completion("a")]


@pytest.fixture
def own():
    """Registers a reward for the test: own(name, function)."""
    added = []

    def add(name, reward):
        registry.register(KIND, name)(lambda: reward)
        added.append(name)

    yield add
    for name in added:
        del registry._variants[KIND, name], registry._notes[KIND, name]


def rewards(asked) -> Rewards:
    return Rewards.of(tiny.config(tune__reward=asked))


def refused(asked, match: str) -> UserError:
    with pytest.raises(UserError, match=match) as error:
        rewards(asked)(GIVEN)
    assert error.value.exit_code == USER_ERROR
    return error.value


def test_one_reward_counts_once():
    total_N, parts = rewards("ended")(GIVEN)
    np.testing.assert_array_equal(total_N, [1, 0, 1])
    assert list(parts) == ["ended"] and total_N.dtype == np.float64


def test_several_are_summed_with_their_weights_and_none_of_one_is_none_of_all():
    total_N, parts = rewards(((2, "exact"), (-0.5, "ended"), (0.25, "contains(text='e')")))(GIVEN)
    np.testing.assert_array_equal(total_N, [2 - 0.5 + 0.25, 0.25, math.nan])
    np.testing.assert_array_equal(parts["exact"], [1, 0, math.nan])
    np.testing.assert_array_equal(parts["ended"], [1, 0, 1])
    assert list(parts) == ["exact", "ended", "contains"]


def test_what_counts_nothing_is_reported_alone():
    total_N, parts = rewards(((0, "exact"), (0.5, "ended")))(GIVEN)
    np.testing.assert_array_equal(total_N, [0.5, 0, 0.5])  # though exact has none for the last
    np.testing.assert_array_equal(parts["exact"], [1, 0, math.nan])


def test_something_has_to_have_a_reward():
    made = rewards(((1, "exact(field='nothing')"), (1, "ended")))
    assert np.isnan(made(GIVEN)[0]).all()
    with pytest.raises(UserError, match="none of 3 completions has a reward: exact is None of each"):
        made.of_some(GIVEN)
    total_N, _ = rewards("exact").of_some(GIVEN)
    np.testing.assert_array_equal(total_N, [1, 0, math.nan])


def test_each_has_a_name_of_its_own(own):
    own("own_one", lambda given: [0.5] * len(given))
    own("exact_2", lambda given: [0.25] * len(given))
    calls = ("exact", "own_one", "exact_2", "exact", "own_one", "exact(field='n')")
    _, parts = rewards(tuple((1.0, call) for call in calls))(GIVEN)
    assert list(parts) == ["exact", "own_one", "exact_2", "exact_3", "own_one_2", "exact_4"]
    assert parts["own_one_2"][0] == 0.5 and parts["exact_2"][0] == 0.25 and parts["exact_3"][0] == 1


@pytest.mark.parametrize("array", [np.float32, jnp.array, tuple, lambda given: np.array(given) > 0])
def test_a_number_is_a_number_whatever_library_it_is_of(array, own):
    own("mine", lambda given: array([1, 0, 1]))
    np.testing.assert_array_equal(rewards("mine")(GIVEN)[0], [1, 0, 1])


@pytest.mark.parametrize("wrong", [math.nan, math.inf, "1", b"1", 1j, [1.0, 2.0], 10**400, {}])
def test_what_is_no_finite_number_is_named(wrong, own):
    own("mine", lambda given: [0.0, wrong, None])
    error = refused("mine", "the reward mine of 'blue' is")
    assert error.where == WHERE and "None" in error.allowed


def test_a_value_is_needed_for_each_completion(own):
    own("mine", lambda given: [1.0])
    refused("mine", "mine gave 1 values for 3 completions")


def test_code_that_fails_is_named_with_its_line(own):
    def broken(given):
        return [1 / len(one.text.replace("blue", "")) for one in given]

    own("mine", broken)
    error = refused(((1.0, "ended"), (1.0, "mine")), "the reward mine raised ZeroDivisionError: division by zero")
    path, _, line = error.where.rpartition(":")
    assert Path(path) == Path(__file__) and int(line) == broken.__code__.co_firstlineno + 1
    own("less", lambda given: None)
    refused("less", "the reward less raised TypeError")

    def says(given):
        raise UserError("the row is empty", where="line 7")

    own("says", says)
    assert refused("says", "the row is empty").where == "line 7"


def test_a_reward_may_be_a_class():
    @registry.register(KIND, "last")
    class Last:
        def __init__(self, *, letter: str = "e"):
            self.letter = letter

        def __call__(self, given):
            return [one.text[-1] == self.letter for one in given]

    try:
        np.testing.assert_array_equal(rewards("last(letter='d')")(GIVEN)[0], [1, 0, 0])
        with pytest.raises(UserError, match="IndexError") as error:
            rewards("last")([completion("")])
        assert error.value.where.startswith(f"{Path(__file__)}:")
    finally:
        del registry._variants[KIND, "last"], registry._notes[KIND, "last"]


def test_the_example_of_the_docs_works():
    page = (Path(__file__).resolve().parents[3] / "docs/tuning/rewards.md").read_text("utf-8")
    code = page.split("## Your own reward in one file")[1].split("```python\n")[1].split("```")[0]
    exec(compile(code, "questions.py", "exec"), {})
    try:
        given = [completion(text, prompt="Tell me.") for text in ("Why? When?", "No.")]
        total_N, _ = rewards("questions(most=2)")([*given, completion("Why?", prompt="Why?")])
        np.testing.assert_array_equal(total_N, [2, 0, math.nan])
    finally:
        del registry._variants[KIND, "questions"], registry._notes[KIND, "questions"]


def test_a_reward_may_read_the_settings_of_the_run():
    def brief(config, *, share: float = 1.0):
        return lambda given: [share * config.sample.max_new_tokens for _ in given]

    registry.register(KIND, "brief")(brief)
    try:
        made = Rewards.of(tiny.config(tune__reward="brief(share=0.5)", sample__max_new_tokens=12))
        np.testing.assert_array_equal(made(GIVEN)[0], [6, 6, 6])
    finally:
        del registry._variants[KIND, "brief"], registry._notes[KIND, "brief"]


@pytest.mark.parametrize(
    "asked, said",
    [
        ("", "none is named"),
        ((), "none is named"),
        ("exakt", "no train.rewards called 'exakt'"),
        (((1.0, "exact(fields='a')"),), "no argument 'fields'"),
        ((0.5, "ended"), "0.5 is no weighted reward"),
        (("ended",), "'ended' is no weighted reward"),
        (((0.0, "ended"), (0, "exact")), "every weight"),
        (((math.inf, "ended"),), "no weighted reward"),
        (((10**400, "ended"),), "no weighted reward"),
        (((True, "ended"),), "no weighted reward"),
        ((("ended", 1.0),), "no weighted reward"),
        (((1.0, "ended", 2),), "no weighted reward"),
    ],
)
def test_what_names_no_rewards_is_refused(asked, said):
    error = refused(asked, said)
    assert error.where == WHERE and (error.allowed or error.fix)


def test_an_unknown_reward_is_refused_when_the_settings_are_read():
    with pytest.raises(UserError, match="length.*out of range"):
        tiny.config(tune__reward=((1.0, "ended"), (1.0, "length(target=0)")))
