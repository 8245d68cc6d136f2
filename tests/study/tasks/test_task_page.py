"""The verb eval with tasks: its table, the files and the page that it writes, and a second run beside the first."""

import json
import re

import numpy as np
import pytest

from gpt_jax import api
from gpt_jax.configs import base
from gpt_jax.main import main
from gpt_jax.study.tasks import evaluation
from tests.train import tiny

TASKS = "arithmetic(problems=12,shots=1),dialogue:problems=6:max_new_tokens=4:source='dialogue(most=3)'"
CALLS = ["arithmetic(problems=12,shots=1)", "dialogue(problems=6, max_new_tokens=4, source='dialogue(most=3)')"]
KNOBS = {**tiny.KNOBS, "model.context": 256, "train.steps": 2, "train.batch": 8, "sample.prompts": ()}
KNOBS |= {"data.source": "arithmetic(count=200, valid=50, digits=1)", "train.eval_batches": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, changes in {"one": {}, "other": {"train.seed": 1, "optim.lr": 1e-2, "data.template": "chatml"}}.items():
        c = base.get_config()
        c.update_from_flattened_dict(KNOBS | {"data.cache": str(folder / "cache")} | changes)
        api.train(c, folder / name)
    return folder


@pytest.fixture(scope="module")
def judged(runs):
    assert main(["eval", f"--workdir={runs / 'one'}", f"--tasks={TASKS}"]) == 0
    return runs / "one" / "eval" / "2"


def test_results_have_every_figure_with_its_interval(judged):
    found = json.loads((judged / "results.json").read_text())
    assert (found["runs"], found["steps"]) == (["one"], [2]) and list(found["tasks"]) == CALLS
    arithmetic, dialogue = found["tasks"].values()
    assert arithmetic["problems"] == 12 and arithmetic["asking"]["shots"] == 1
    assert arithmetic["source"] == KNOBS["data.source"] and dialogue["source"] == "dialogue(most=3)"
    for task in (arithmetic, dialogue):
        assert all(f["low"] <= f["value"] <= f["high"] for f in task["figures"].values())
    assert any(name.startswith("exact/distance=") for name in dialogue["figures"])


def test_answers_are_kept_with_their_problems_and_not_asked_again(judged, runs, monkeypatch, capsys):
    files = sorted((judged / "answers").iterdir())
    assert [path.name.partition("-")[0] for path in files] == ["arithmetic", "dialogue"]
    kept = json.loads(files[0].read_text())
    assert len(kept["prompts"]) == len(kept["answers"]) == len(kept["texts"]) == 12
    before = (judged / "results.json").read_text()

    def asked(*given, **named):
        raise AssertionError("a model was asked again")

    monkeypatch.setattr(evaluation.evaluate, "answers", asked)
    capsys.readouterr()
    assert main(["eval", f"--workdir={runs / 'one'}", f"--tasks={TASKS}"]) == 0
    assert (judged / "results.json").read_text() == before
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split()[:2] == ["task", "figure"] and shown[-1] == str(judged / "tasks.html")
    value = json.loads(before)["tasks"][CALLS[0]]["figures"]["correct"]
    cells = f"{value['value']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"
    assert re.fullmatch(rf"arithmetic +correct +{re.escape(cells)} +12", shown[1])


def test_the_page_has_right_and_wrong_answers_side_by_side(judged):
    page = (judged / "tasks.html").read_text()
    counts = re.findall(r"<h3>(Right|Wrong): (\d+)", page)
    assert [name for name, _ in counts] == ["Right", "Wrong"] * 2
    assert [int(counts[i][1]) + int(counts[i + 1][1]) for i in (0, 2)] == [12, 6]
    assert "12 held-out problems" in page and "1 shots, the same for all" in page
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page


def test_text_on_the_page_is_text(runs, tmp_path):
    rows = [{"prompt": f"<script>alert({n})</script>", "answer": "<b>&"} for n in range(6)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["eval", f"--workdir={runs / 'other'}", f"--tasks=jsonl(path={str(path)!r}, problems=0)"]) == 0
    page = (runs / "other/eval/2/tasks.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(" in page and "<b>" not in page


def test_two_runs_are_compared_problem_by_problem(judged, runs, capsys):
    command = ["eval", f"--workdir={runs / 'one'}", f"--tasks={TASKS}", f"--compare={runs / 'other'}@2"]
    assert main(command) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "difference (95% interval)" in shown[0] and shown[-1] == str(judged / "tasks-other-2.html")
    found = json.loads((judged / "tasks-other-2.json").read_text())
    assert found["runs"] == ["one", "other"]
    for task in found["tasks"].values():
        for name, figure in task["differences"].items():
            one, other = task["figures"][name], task["other"][name]
            assert figure["value"] == pytest.approx(one["value"] - other["value"])
            assert figure["problems"] == one["problems"] == other["problems"]
    page = (judged / "tasks-other-2.html").read_text()
    counts = list(map(int, re.findall(r"<h3>(?:Right: one alone|Right: other alone|Both are \w+): (\d+)", page)))
    assert len(counts) == 8 and np.sum(counts[:4]) == 12
    again = json.loads((judged / "results.json").read_text())
    assert list(again["tasks"]) == CALLS  # of the run alone, as it was


def test_results_add_up_over_commands(judged, runs):
    assert main(["eval", f"--workdir={runs / 'one'}", "--tasks=arithmetic:problems=3"]) == 0
    found = json.loads((judged / "results.json").read_text())
    assert list(found["tasks"]) == [*CALLS, "arithmetic(problems=3)"]


@pytest.mark.parametrize(
    "flags, what",
    [
        (["--tasks=arithmetics"], "did you mean 'arithmetic'"),
        (["--tasks=arithmetic(problems=3)(x)"], "is not a name or a call"),
        (["--tasks=arithmetic:problems"], "is no task"),
        (["--tasks="], "no task is named"),
        (["--compare=runs/x"], "--compare needs --tasks"),
        (["--tasks=arithmetic", "--compare=runs/nowhere"], "nowhere"),
        (["--tasks=dialogue:problems=4:shots=40"], "do not fit"),
    ],
)
def test_refusals(runs, flags, what, capsys):
    assert main(["eval", f"--workdir={runs / 'other'}", *flags]) == 2
    assert what in capsys.readouterr().err


def test_without_tasks_the_verb_is_as_it_was(runs, capsys):
    assert main(["eval", f"--workdir={runs / 'one'}"]) == 0
    assert re.search(r"^loss +\d", capsys.readouterr().out, re.MULTILINE)
