"""What finished runs answer, read as policies."""

import numpy as np
import pytest

from gpt_jax.errors import UserError
from gpt_jax.study.sweep import answers
from gpt_jax.train import loop
from tests.train import tiny

TASK = {"data__source": "arithmetic(count=60, valid=12)", "tune__reward": ((1.0, "ended"), (0.0, "exact"))}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a language model q, and policies ppo and lora that begin with it."""
    folder = tmp_path_factory.mktemp("answers")
    text = tiny.write_text(folder)
    shared = dict(data__cache=str(folder / "cache"), model__vocab=257, model__context=24, train__batch=8)
    shared |= dict(train__steps=2, train__save_every=2, train__eval_every=2, sample__max_new_tokens=6)
    shared |= dict(sample__temperature=1.0)
    loop.train(tiny.config(**shared, data__source=f"text(path={str(text)!r})"), folder / "q")
    tuned = shared | TASK | dict(tune__start=str(folder / "q"), tune__samples=4, optim__lr=1e-2, optim__warmup=0)
    loop.train(tiny.config(**tuned, tune__objective="ppo(kl=0.0)"), folder / "ppo")
    loop.train(tiny.config(**tuned, tune__objective="grpo", tune__adapter="lora(rank=2)"), folder / "lora")
    return folder


@pytest.mark.parametrize("name", ["q", "ppo", "lora"])
def test_answers_are_functions_of_the_seed(runs, name):
    asked = TASK if name == "q" else {}

    def draw(samples, seed):
        return answers.drawn(runs / name, prompts=5, samples=samples, seed=seed, **asked)

    found = draw(3, 1)
    assert set(found) == {"ended", "exact", "reward", "length"}
    assert all(values_PS.shape == (5, 3) for values_PS in found.values())
    np.testing.assert_array_equal(found["reward"], found["ended"])  # exact has no weight
    assert ((1 <= found["length"]) & (found["length"] <= 6)).all()
    np.testing.assert_array_equal(found["length"], draw(3, 1)["length"])
    other = draw(40, 2)
    assert other["length"].std() > 0 and other["reward"].shape == (5, 40)


def test_a_model_does_not_diverge_from_itself_and_a_policy_does(runs):
    same = answers.measured(runs / "q", runs / "q", **TASK)
    assert same["kl"] == 0 and same["kl_k3"] == 0 and 0 <= same["reward"] <= 1
    moved = answers.measured(runs / "ppo", runs / "q")
    assert moved["kl_k3"] > 1e-4
    # Of a policy the reference is what it began with, where none is named.
    assert moved["kl_k3"] == pytest.approx(answers.measured(runs / "ppo", runs / "q")["kl_k3"])


def test_a_run_without_prompts_is_no_policy(runs):
    with pytest.raises(UserError):
        answers.drawn(runs / "q", prompts=2, samples=2, tune__reward="ended")
