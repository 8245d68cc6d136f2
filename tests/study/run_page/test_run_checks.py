"""What a page says to look at: each check fires on numbers beyond its limit, and is silent on others and on none."""

from pathlib import Path

import pytest

from gpt_jax.study.run_page import checks, sentences
from gpt_jax.study.run_page.checks import CHECKS
from gpt_jax.study.run_page.run_files import RunFiles
from gpt_jax.train.step import objective_of
from tests.train import tiny

DOCS = Path(__file__).resolve().parents[3] / "docs" / "reports.md"
NAN = float("nan")


def run(**series) -> RunFiles:
    """A run with these values, a record each ("__" for "/")."""
    length = max(map(len, series.values()), default=0)
    records = [{"step": k, "tokens": 10 * k, "time": 1.0 * k} for k in range(length)]
    for name, values in series.items():
        for record, value in zip(records, values, strict=False):
            record[name.replace("__", "/")] = value
    config = tiny.config()
    return RunFiles(Path("run"), config, objective_of(config), records, {}, [], {}, {})


def rising(first: float, last: float, count: int = 20) -> list[float]:
    return [first + (last - first) * k / (count - 1) for k in range(count)]


# A word of the check -> (numbers that it names, the number that it has of them), and numbers that it does not.
CASES = {
    "not finite": ((dict(train__loss=[2.0, NAN, 1.0, float("inf")]), 2), dict(train__loss=[2.0, 1.0])),
    "skipped": ((dict(train__skipped=[0, 1, 3]), 3), dict(train__skipped=[0, 0])),
    "validation loss": ((dict(valid__loss=[3.0, 2.0, 2.5]), 0.25), dict(valid__loss=[3.0, 2.0, 2.01])),
    "validation reward": ((dict(valid__reward=[0.2, 0.8, 0.4]), 2 / 3), dict(valid__reward=[0.2, 0.8, 0.6])),
    "entropy": ((dict(train__entropy=[2.0] * 18 + [0.06, 0.04]), 0.05), dict(train__entropy=rising(2, 0.2))),
    "groups": (
        (dict(train__dead_groups=rising(0.1, 0.9)[:18] + [0.9, 0.8]), 0.85),
        dict(train__dead_groups=[0.9] * 18 + [0.3] * 2),
    ),
    "divergence": ((dict(train__kl=[1, 60.0]), 60), dict(train__kl=[60.0, 1])),
    "length of answers": (
        (dict(train__length=[10.0, 20, 30], train__reward=[0.5, 0.6, 0.5]), 3),
        dict(train__length=[10.0, 14], train__reward=[0.5, 0.5]),
    ),
    "gap": ((dict(train__sampler_gap=[0.01]), 0.01), dict(train__sampler_gap=[1e-6])),
    "left out": ((dict(train__left_out=[0.0, 0.2]), 0.2), dict(train__left_out=[0.2, 0.0])),
    "ended itself": ((dict(train__ended=[1.0, 0.2]), 0.2), dict(train__ended=[0.2, 0.9])),
    "chosen completions": ((dict(valid__chosen_log_prob=[-90.0, -93]), 3), dict(valid__chosen_log_prob=[-90.0, -90.5])),
}


def found(of: RunFiles) -> dict[str, float]:
    return {check.what: value for check, value in checks.measured(of) if check.beyond(value)}


def test_every_check_has_a_case():
    assert len(CASES) == len(CHECKS)
    for word, check in zip(CASES, CHECKS, strict=True):
        assert word in check.what


@pytest.mark.parametrize("word", CASES)
def test_a_check_fires_on_numbers_beyond_its_limit_and_on_no_others(word):
    (bad, number), good = CASES[word]
    ((what, value),) = found(run(**bad)).items()
    assert word in what and value == pytest.approx(number)
    assert found(run(**good)) == {}
    assert any(word in check.what for check, _ in checks.measured(run(**good)))  # it was measured


def test_longer_answers_that_are_worth_more_are_not_named():
    assert found(run(train__length=[10.0, 30], train__reward=[0.5, 0.9])) == {}


@pytest.mark.parametrize(
    "series",
    [
        {},
        dict(valid__loss=[2.0]),
        dict(valid__reward=[0.5]),
        dict(valid__chosen_log_prob=[-90.0]),
        dict(train__length=[9.0]),
        dict(valid__loss=[0.0, 1.0]),
    ],
)
def test_a_run_without_the_numbers_has_no_finding(series):
    assert found(run(**series)) == {}


def test_numbers_that_are_not_finite_are_in_no_other_finding():
    (what,) = found(run(train__entropy=[1.0, NAN], valid__loss=[2.0, NAN], valid__chosen_log_prob=[NAN, NAN]))
    assert "not finite" in what


def test_limits_are_documented():
    text = " ".join(DOCS.read_text(encoding="utf-8").split())
    for check in CHECKS:
        side = "below" if check.below else "above"
        assert f"| {check.what} | {side} {check.limit:g} |" in text, check.what


def test_the_first_line_of_an_objectives_module_names_its_formula():
    assert sentences.objective("grpo(kl=0.0)").endswith("(Shao et al. 2024).")
    assert sentences.objective("lm") == (
        "The loss of a language model: cross-entropy of the next token, over the targets that count."
    )
