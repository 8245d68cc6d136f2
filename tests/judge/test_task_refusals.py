"""Tasks, lists of tasks and rows that cannot be asked: what the error says."""

import pytest

from gpt_jax.errors import UserError
from gpt_jax.judge import evaluate
from gpt_jax.judge.opened import calls_of, words_of
from tests.judge.answers import config, judged, opened, written


@pytest.mark.parametrize(
    "call, what",
    [
        ("arithmetics", "no judge.tasks called"),
        ("arithmetic(shot=4)", "shot"),
        ("arithmetic(shots=-1)", "out of range"),
        ("arithmetic(score='best')", "score"),
        ("arithmetic(samples=4)", "likeliest"),
        ("arithmetic(gap=' ')", "gap without"),
        ("arithmetic(metrics=('pass_at(k=2)',))", "needs 2 answers"),
        ("arithmetic(metrics=('blue',))", "no judge.metrics called"),
        ("arithmetic(shots=30000)", "training rows"),
        ("arithmetic(source='python_stdlib')", "running text"),
        ("arithmetic(source='no_source')", "no data.sources called"),
        ("programs", "runs the programmes"),
        ("examples", "no source"),
        ("examples(source='which_package')", "no question"),
        ("examples(source='arithmetic', options=True)", "without options"),
        ("jsonl(path='nowhere.jsonl')", "does not exist"),
        ("jsonl(path='a', source='b')", "with a source"),
    ],
)
def test_refusals(call, what):
    with pytest.raises(UserError, match=what):
        opened(call)


@pytest.mark.parametrize("text", ["", " , ", "a:shots", "a:4"])
def test_refusals_of_lists_of_tasks(text):
    with pytest.raises(UserError):
        calls_of(words_of(text))


def test_rows_that_cannot_be_judged_are_refused():
    task = opened("countdown(source='arithmetic', problems=2)")
    with pytest.raises(UserError, match="cannot be judged"):
        evaluate.answers(task, judged(config(model__context=1024)))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p"},
        {"prompt": "p", "options": ["x"], "class": 0},
        {"prompt": "p", "options": ["x", "x"], "class": 0},
        {"prompt": "p", "options": ["x", "y"], "class": 2},
        {"prompt": "p", "options": ["x", "y"], "class": "z"},
        {"messages": [{"role": "user", "content": "p"}]},
        {"prompt": "p", "answers": []},
        {"prompt": "p", "answers": [1]},
    ],
)
def test_users_rows_that_ask_nothing_are_named(row, tmp_path):
    path = written(tmp_path, [{**row, "id": n} for n in range(4)])
    with pytest.raises(UserError, match="line"):
        opened(f"jsonl(path={path!r}, options={'options' in row})")
