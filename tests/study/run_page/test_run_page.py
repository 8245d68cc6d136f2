"""The page of a run, made of runs of every kind: what it says, what it shows, and how a browser has it."""

import contextlib
import io
import json
import re
import shlex
import sys

import pytest

import launch
from gpt_jax.train.record import metrics
from gpt_jax.train.rollouts import shown
from tests.study.report.test_browser import DESK, OUTSIDE, OVERLAPS, PHONE, SMALLEST_LETTERS, WIDER_THAN_THE_SCREEN
from tests.study.report.test_report import Page
from tests.train import tiny

STEPS, EVERY = 4, 2
LOADED = re.compile(r"<script|<link|<img|@import|url\((?!#)|\bsrc=|href=\"(?!#)")  # what a page takes from elsewhere
COMMON = {
    "model.context": 24,
    "train.batch": 8,
    "train.steps": STEPS,
    "train.eval_every": EVERY,
    "train.save_every": EVERY,
}
KINDS = {
    "policy": {
        "data.source": "arithmetic(count=60, valid=12)",
        "tune.objective": "ppo(kl=0.1)",
        "tune.reward": "((1.0, 'ended'), (0.5, 'exact'))",
        "tune.samples": 4,
        "tune.updates": 2,
        "optim.lr": 1e-2,
        "sample.temperature": 0.7,
        "sample.max_new_tokens": 10,
    },
    "dpo": {"data.source": "{pairs}", "tune.objective": "dpo(beta=0.1)", "model.context": 32},
    "classify": {"data.source": "{texts}", "tune.objective": "classify(classes=('red', 'blue'))"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A language model, and a policy, preferences and a classifier that begin with it; each with its page."""
    folder = tmp_path_factory.mktemp("runs")
    text = tiny.write_text(folder)
    pairs = [{"prompt": f"{i} is ", "chosen": "less than <b>", "rejected": "more"} for i in range(40)]
    texts = [{"text": f"{'xy'[i % 2] * 4} {i}", "class": ("red", "blue")[i % 2]} for i in range(60)]
    files = {}
    for name, rows in (("pairs", pairs), ("texts", texts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files[name] = f"jsonl(path={str(folder / f'{name}.jsonl')!r})"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            train(text, "lm", {"sample.prompts": "('the ', 'a <script>')", "sample.max_new_tokens": 8})
        command = shlex.join([sys.executable, "-m", "gpt_jax", "report", "--workdir=lm"])
        assert f"\nreport           {command}\n" in said.getvalue()
        for name, knobs in KINDS.items():
            source = knobs["data.source"].format(**files)
            train(text, name, {**knobs, "data.source": source, "tune.start": "lm", "data.valid_fraction": 0.3})
        for name in ("lm", *KINDS):
            assert launch.main(["report", f"--workdir={name}"]) == 0
    return folder


def train(text, workdir: str, knobs: dict) -> None:
    words = {**COMMON, "model.vocab": 257, **knobs}
    flags = [f"--config.{knob}={value}" for knob, value in words.items()]
    assert launch.main([*tiny.command(text, workdir), *flags]) == 0


def text_of(runs, name: str) -> Page:
    return Page((runs / name / "report.html").read_text())


@pytest.mark.parametrize("name", ["lm", *KINDS])
def test_a_page_stands_alone_and_tells_the_run_in_order(runs, name):
    source = (runs / name / "report.html").read_text()
    page = Page(source)
    assert not page.open and not LOADED.search(source) and page.tags.count("svg") == 2
    sections = ["was trained", "it reached", "it wrote", "to look at", "How to go on"]
    assert [page.text.index(title) for title in sections] == sorted(page.text.index(title) for title in sections)
    assert source.count('role="img" aria-label="') == 2
    summary = json.loads((runs / name / "summary.json").read_text())
    assert f"It is finished: {STEPS} of {STEPS} steps." in page.text
    assert f"{summary['params']:,} parameters: 1 layers, width 16, 2 heads" in page.text


def test_what_was_trained_is_read_from_the_run(runs):
    page = text_of(runs, "policy").text
    parent = json.loads((runs / "policy" / "summary.json").read_text())["parent"]
    assert parent["step"] == STEPS and f"lm, step {STEPS}, digest {parent['digest'][:12]}." in page
    assert "arithmetic(count=60, valid=12), tokenizer bytes, template plain." in page
    assert "ppo(kl=0.1). Proximal policy optimisation with a critic" in page and "Ziegler et al. 2019" in page
    assert "1.0 × ended + 0.5 × exact" in page
    assert "16 answers, 4 to a prompt, up to 10 tokens at temperature 0.7, for 2 updates each." in page
    assert "From scratch, with random parameters." in text_of(runs, "lm").text


@pytest.mark.parametrize(
    "name, metric", [("lm", "loss"), ("policy", "reward"), ("dpo", "loss"), ("classify", "accuracy")]
)
def test_what_was_reached_is_that_of_the_records(runs, name, metric):
    records = [r for r in metrics.read(runs / name) if f"valid/{metric}" in r]
    first, last = records[0], records[-1]
    choose = max if metric in ("reward", "accuracy") else min
    best = choose(records, key=lambda r: r[f"valid/{metric}"])
    a, b, c = (record[f"valid/{metric}"] for record in (first, last, best))
    page = text_of(runs, name).text
    assert f"Validation {metric} went from {a:.4g} at step {first['step']} to {b:.4g} at step {last['step']};" in page
    kind = "highest" if choose is max else "lowest"
    assert f"the {kind} was {c:.4g}, at step {best['step']}." in page
    assert f"{a:.4g} {c:.4g} {b:.4g} {b - a:+.4g}" in page  # a row of the table


def test_pictures_are_of_what_a_run_has_recorded(runs):
    titles = {name: (runs / name / "figures" / "measures.svg").read_text() for name in ("lm", *KINDS)}
    policy = ("reward and its parts", "divergence from the reference", "entropy", "groups of equal reward", "left out")
    assert all(title in titles["policy"] for title in (*policy, "decoder against training", "loss of the critic"))
    assert all(title in titles["dpo"] for title in ("rewards", "margin", "log-probabilities", "chosen log prob"))
    assert not any(title in titles["lm"] for title in (*policy, "margin", "rewards"))
    assert all(">speed<" in text and ">norm of the gradient<" in text for text in titles.values())
    source = (runs / "policy" / "report.html").read_text()
    last = [r["train/entropy"] for r in metrics.read(runs / "policy") if "train/entropy" in r][-1]
    assert re.search(rf"train/entropy: [\d.]+ at step 1, {last:.4g} at step {STEPS}", source)  # alt text
    for picture in ("curve.png", "curve.svg", "measures.png", "measures.svg"):
        assert (runs / "policy" / "figures" / picture).exists()


def test_answers_of_three_evaluations_stand_side_by_side(runs):
    page = text_of(runs, "policy")
    for step in (0, EVERY, STEPS):
        assert f"Step {step} " in page.text
        for answer in shown.read(runs / "policy" / "samples" / f"rollout-{step}.md"):
            assert " ".join(answer.prompt.split()) in page.text and f"{answer.kind} {answer.reward}" in page.text
    assert "Prompts that several evaluations show:" in page.text  # there are 12 prompts, and 9 in each table


def test_samples_are_shown_and_escaped(runs):
    source = (runs / "lm" / "report.html").read_text()
    assert "a &lt;script&gt;" in source and "No samples are kept" in text_of(runs, "classify").text


@pytest.mark.parametrize("name", ["lm", "policy", "classify"])
def test_the_commands_work_as_they_are_printed(runs, name, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    block = (runs / name / "report.html").read_text().partition("How to go on</h2>\n<pre>")[2].partition("</pre>")[0]
    commands = dict(zip(block.split("\n")[::2], Page(block).words[0].split("\n")[1::2], strict=True))
    assert list(commands) == [*(["# sample"] if name != "classify" else []), "# evaluate", "# write this page again"]
    for command in commands.values():
        words = shlex.split(command)
        assert words[:2] == ["python", "launch.py"] and launch.main(words[2:]) == 0
    assert capsys.readouterr().out.strip().endswith(f"{name}/report.html")


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("name", ["policy", "dpo"])
def test_the_page_can_be_read(browser, runs, name, size):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size is PHONE},
    )
    browser.get((runs / name / "report.html").as_uri())
    assert not browser.get_log("browser")
    assert browser.execute_script(WIDER_THAN_THE_SCREEN) <= 0
    assert browser.execute_script(SMALLEST_LETTERS) >= 8
    assert not browser.execute_script(OVERLAPS)
    assert not browser.execute_script(OUTSIDE)


CONTRAST = """
const luminance = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b) / 3;
const behind = getComputedStyle(document.body).backgroundColor;
const page = behind === 'rgba(0, 0, 0, 0)' ? 255 : luminance(behind);
return [...document.querySelectorAll('p, dt, dd, td, figcaption')]
  .map(e => Math.abs(luminance(getComputedStyle(e).color) - page));
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_by_day_and_by_night(browser, runs, scheme):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get((runs / "policy" / "report.html").as_uri())
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(26, 26, 26)") == (scheme == "dark")
    assert min(browser.execute_script(CONTRAST)) > 120
