"""Processes that were not started alike: each says which of them differs, and in what, and nothing is begun."""

import pytest

from gpt_jax import user_code
from gpt_jax.mesh import agreement
from gpt_jax.train.starting.facts import facts
from tests.mesh.processes import run_processes
from tests.train import tiny

COMPARED = """
import os, sys
from gpt_jax.errors import UserError
from gpt_jax.mesh import agreement, collectives
from gpt_jax.mesh.processes import start_processes

start_processes()
rank = int(os.environ["JAX_PROCESS_ID"])
texts = collectives.gather("é" * rank)
assert texts == ["", "é", "éé"], texts
agreement.check(lambda: {"a": "1", "b": "2"})
try:
    agreement.check(lambda: {"a": "1", "the data's digest": "other" if rank == 2 else "one"})
except UserError as error:
    print(error)
"""
TRAINED = """
import os, sys
import launch

rate = "2e-3" if os.environ["JAX_PROCESS_ID"] == "1" else "1e-3"
sys.exit(launch.main([*sys.argv[1:], f"--config.optim.lr={rate}"]))
"""


@pytest.mark.parametrize(
    "facts, words",
    [
        (({"a": "1"}, {"a": "1"}), []),
        (({"a": "1"}, {"a": "2"}), ["a is 2 in process 1, 1 in the others"]),
        (({"a": "2"}, {"a": "1"}, {"a": "1"}), ["a is 2 in process 0, 1 in the others"]),
        (({"a": "1"}, {"a": "2"}, {"a": "1"}, {"a": "2"}, {"a": "1"}), ["a is 2 in process 1, 3, 1 in the others"]),
        (({"a": "1", "b": "1"}, {"a": "1"}), ["b is nothing in process 1, 1 in the others"]),
        (
            ({"a": "1", "b": "1"}, {"a": "2", "b": "2"}),
            ["a is 2 in process 1, 1 in the others", "b is 2 in process 1, 1 in the others"],
        ),
    ],
)
def test_what_differs_is_named(facts, words):
    assert agreement.differences(facts) == words


def test_facts_are_of_settings_code_and_packages(tmp_path):
    before = facts(tiny.config())
    assert before == facts(tiny.config())
    assert agreement.differences([before, facts(tiny.config(optim__lr=0.5))]) == [
        f"config.optim.lr is 0.5 in process 1, {tiny.config().optim.lr} in the others"
    ]
    (tmp_path / "mine.py").write_text("get_config = 3")
    user_code.load_module(tmp_path / "mine.py")
    (difference,) = agreement.differences([before, facts(tiny.config())])
    assert difference.startswith("the code's digest is ")


def test_one_process_has_nothing_to_compare():
    agreement.check(lambda: pytest.fail("nobody asked"))


def test_processes_compare_texts(tmp_path):
    finished = run_processes(["-c", COMPARED], tmp_path, count=3, devices=1, seconds=240)
    assert [process.returncode for process in finished] == [0, 0, 0], finished[0].stderr[-2000:]
    for process in finished:
        assert "the 3 processes were not started alike: the data's digest is other in process 2, one" in process.stdout


def test_a_process_with_other_settings_is_named_and_nothing_is_begun(tmp_path):
    argv = tiny.command(tiny.write_text(tmp_path), tmp_path / "q", train__batch=12)
    finished = run_processes(["-c", TRAINED, *argv], tmp_path, count=3, devices=1, seconds=240)
    assert [process.returncode for process in finished] == [2, 2, 2], finished[0].stderr[-2000:]
    for process in finished:
        assert "config.optim.lr is 0.002 in process 1, 0.001 in the others" in process.stderr
    assert not (tmp_path / "q").exists()
