"""Claims checked against values, optima of curves, and kept results."""

import math
from pathlib import Path

import numpy as np
import pytest

from gpt_jax.plotting import panels
from gpt_jax.study.compare import claims, optima
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.report import page, scoreboard
from tests.study.report.test_report import EFFECT, trained


def test_a_claim_passes_by_the_whole_interval():
    values = [1.0, 1.1, 1.2]  # 1.1 with a half-width of 4.303 x 0.1 / sqrt(3) = 0.248
    assert check_claim("c", "p", values, least=0.8, most=1.4).verdict == "pass"
    assert check_claim("c", "p", values, least=0.9, most=1.4).verdict == "inconclusive"
    assert check_claim("c", "p", values, least=1.2).verdict == "inconclusive"
    assert check_claim("c", "p", values, least=1.4).verdict == "fail"
    found = check_claim("c", "p", values, most=2.0)
    assert (found.low, found.high) == (pytest.approx(0.852, abs=1e-3), pytest.approx(1.348, abs=1e-3))
    assert found.ours == "1.1 [0.8516, 1.348]" and found.allowed == "at most 2"


def test_what_is_missing_leaves_a_claim_open():
    assert check_claim("c", "p", [1.0], least=0.0).verdict == "inconclusive"
    assert check_claim("c", "p", [], least=0.0).ours == "no value"
    found = check_claim("c", "p", [1.0, 1.1, math.nan], least=0.0)
    assert found.verdict == "inconclusive" and "1 of 3 seeds" in found.ours


def test_verdicts_of_claims_at_their_limit_err_as_rarely_as_stated():
    random = np.random.default_rng(0)
    verdicts = [check_claim("c", "p", random.standard_normal(4), most=0.0).verdict for _ in range(2000)]
    assert verdicts.count("pass") / 2000 == pytest.approx(0.025, abs=0.01)
    assert verdicts.count("fail") / 2000 == pytest.approx(0.025, abs=0.01)


def test_the_lowest_point_of_a_parabola():
    at = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0]
    assert optima.parabola_minimum(at, [(x + 0.7) ** 2 + 3 for x in at]) == pytest.approx(-0.7)
    assert optima.parabola_minimum(at[::-1], [(x + 0.7) ** 2 + 3 for x in at[::-1]]) == pytest.approx(-0.7)
    assert optima.parabola_minimum(at, [(x + 0.7) ** 2 if x < 1 else math.inf for x in at]) == pytest.approx(-0.7)
    assert math.isnan(optima.parabola_minimum(at, at)) and math.isnan(optima.parabola_minimum(at, [math.nan] * 6))


@pytest.fixture
def results(tmp_path):
    """A sweep whose three arms end at known losses, with an analysis of them."""
    made = trained(tmp_path / "mine")
    losses = made.values()
    less = [losses["better & <bold>"][seed] - losses["plain"][seed] for seed in made.seeds]
    checked = [check_claim("better by 0.2 & more", "0.2 <somewhere>", less, least=-0.3, most=-0.1)]
    figure, axis = panels(3, 2)
    axis.plot([1, 2], [3, 4])
    claims.write(made.workdir, checked, {"line": (figure, "A line.")})
    return made


def test_the_page_tells_findings_and_shows_their_pictures(results):
    text = page.write(results).read_text()
    assert "better by 0.2 &amp; more" in text and 'class="pass">pass</td>' in text
    assert text.count("<svg") == 3 and "A line." in text


def test_a_result_is_kept_and_compared(results, tmp_path):
    page.write(results)
    kept = scoreboard.keep(results, tmp_path / "results")
    again = scoreboard.read(tmp_path / "results" / "mine.json")
    assert again == kept and set(kept.values) == set(EFFECT) and kept.seconds == 12 * 9.0
    assert (tmp_path / "results" / "mine-line.png").exists()
    table = scoreboard.table([kept], "results")
    assert "| better by 0.2 & more | 0.2 <somewhere> | -0.3 to -0.1 |" in table and "1 pass" in table
    assert "make reproduce ARGS=mine" in table and "better & <bold> is better than plain" in table
    (line,), as_before = scoreboard.compare(kept, again)
    assert line.startswith("as before ") and line.count("pass, -0.1797 [") == 2 and as_before
    assert scoreboard.compare(None, kept)[0][0].startswith("new ")
    claims.write(results.workdir, [check_claim("better by 0.2 & more", "0.2", [0.5, 0.51, 0.52], most=-0.1)], {})
    now = scoreboard.keep(results, tmp_path / "results")
    (line,), as_before = scoreboard.compare(kept, now)
    assert line.startswith("CHANGED    better by 0.2 & more: fail, 0.51 [") and "kept: pass, -0.1797" in line
    assert not as_before
    assert [path.name for path in (tmp_path / "results").glob("*.png")] == ["mine-differences.png"]
    assert scoreboard.read(tmp_path / "nothing.json") is None


def test_the_scoreboard_is_what_the_results_say():
    here = Path(__file__).resolve().parents[3] / "experiments"
    names = sorted(path.stem for path in (here / "results").glob("*.json"))
    results = [scoreboard.read(here / "results" / f"{name}.json") for name in names]
    assert (here / "README.md").read_text().endswith(scoreboard.table(results, "results"))
    assert scoreboard.summary(results) in (here.parent / "README.md").read_text()
