"""What tasks have found out about a run, on its page: while it was trained, and by the verb eval."""

import json

import pytest

import launch
from gpt_jax.errors import StorageError
from gpt_jax.judge.bootstrap import Figure
from gpt_jax.study.run_page import page
from gpt_jax.train.record import metrics
from tests.study.report.test_report import Page
from tests.train import tiny

TASK, STEPS = "arithmetic(problems=6)", 4
RESULTS = "results.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Asked one task while it is trained, and afterwards, at two of its steps, two."""
    folder = tmp_path_factory.mktemp("runs")
    knobs = {"data__source": "arithmetic(count=60, valid=12)", "model__context": 24, "train__batch": 8}
    knobs |= {"train__steps": STEPS, "train__eval_every": 2, "train__save_every": 2, "train__keep": 4}
    knobs |= {"eval__tasks": f'("{TASK}",)'}
    assert launch.main(tiny.command(tiny.write_text(folder), folder / "q", **knobs)) == 0
    for step, tasks in ((2, TASK), (STEPS, f"{TASK},arithmetic(problems=5)")):
        assert launch.main(["eval", f"--workdir={folder / 'q'}", f"--step={step}", f"--tasks={tasks}"]) == 0
    return folder / "q"


@pytest.fixture
def copied(run, tmp_path):
    folder = tmp_path / "q"
    folder.symlink_to(run)
    yield folder
    for place in run.glob("eval/9"):
        for path in place.iterdir():
            path.unlink()
        place.rmdir()


def said(workdir) -> str:
    return Page(page.report(workdir).read_text()).text


def figure_of(path, call, name="correct"):
    values = json.loads(path.read_text())["tasks"][call]["figures"][name]
    return str(Figure(**values))


def test_figures_of_several_steps_stand_side_by_side(run):
    early, late = (run / "eval" / str(step) / RESULTS for step in (2, STEPS))
    text = said(run)
    assert "What it can do task figure step 2 step 4 problems " in text
    assert f"{TASK} correct {figure_of(early, TASK)} {figure_of(late, TASK)} 6 " in text
    other = "arithmetic(problems=5)"
    assert f"{other} correct – {figure_of(late, other)} 5 " in text
    assert "eval/2/tasks.html, eval/4/tasks.html" in text and "95% interval" in text


def test_figures_while_it_was_trained_are_in_the_table_and_drawn(run):
    values = [r["valid/arithmetic/correct"] for r in metrics.read(run) if "valid/arithmetic/correct" in r]
    assert len(values) == 2
    assert f" arithmetic/correct {values[0]:.4g} " in said(run)
    assert "task arithmetic" in (run / "figures" / "measures.svg").read_text()


def test_a_run_that_was_asked_nothing_has_no_such_part(tmp_path):
    assert launch.main(tiny.command(tiny.write_text(tmp_path), tmp_path / "q", train__steps=1, train__batch=8)) == 0
    (tmp_path / "q" / "eval" / "notes").mkdir(parents=True)
    text = said(tmp_path / "q")
    assert "What it can do" not in text and "task" not in text.partition("How to go on")[0]


def test_names_are_no_markup(copied):
    place = copied / "eval" / "9"
    place.mkdir()
    values = {"value": 0.5, "low": 0.25, "high": 0.75, "problems": 1234}
    (place / RESULTS).write_text(json.dumps({"tasks": {"<b>": {"figures": {"<i>": values}}}}))
    (place / "tasks-<u>.html").touch()
    source = page.report(copied).read_text()
    assert not [tag for tag in ("<b>", "<i>", "<u>") if tag in source]
    assert "<b> <i> – – 0.5 [0.25, 0.75] 1,234" in Page(source).text


@pytest.mark.parametrize(
    "name, content",
    [
        (RESULTS, "[]"),
        (RESULTS, '{"tasks": {"a": 3}}'),
        (RESULTS, '{"tasks": {"a": {"figures": [1]}}}'),
        (RESULTS, '{"tasks": {"a": {"figures": {"exact": 0.5}}}}'),
        (RESULTS, '{"tasks": {"a": {"figures": {"exact": {"value": 0.5}}}}}'),
        (RESULTS, '{"tasks": {"a": {"figures": {"exact": {"value": "x"}}}}}'),
        ("results_2026-01-01.json", '{"results": 3}'),
        ("results_2026-01-01.json", '{"results": {"a": [3]}}'),
        ("results_2026-01-01.json", '{"results": {}, "n-samples": {"a": 3}}'),
    ],
)
def test_damaged_results_are_named(copied, name, content):
    place = copied / "eval" / "9"
    place.mkdir()
    (place / name).write_text(content)
    with pytest.raises(StorageError, match=name):
        page.report(copied)
