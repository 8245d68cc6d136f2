"""A report as a browser shows it: nothing on the console, nothing overlaps, axes have names, a phone can read it."""

from pathlib import Path

import pytest

from gpt_jax.plotting import panels
from gpt_jax.study.compare import claims
from gpt_jax.study.compare.claims import check_claim
from gpt_jax.study.report import page
from tests.study.report.test_report import trained

DESK, PHONE = (1280, 900), (390, 844)

# The boxes of all words of each picture, and those pairs of them that share more than a sliver.
OVERLAPS = """
return [...document.querySelectorAll('figure svg')].flatMap(svg => {
  const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  const found = [];
  boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
    const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (wide > 1 && high > 0.3 * Math.min(p.height, q.height)) found.push(a + ' / ' + b);
  }));
  return found;
});
"""
OUTSIDE = """
return [...document.querySelectorAll('figure svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(t => {
    const box = t.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
  }).map(t => t.textContent);
});
"""
SMALLEST_LETTERS = """
return Math.min(...[...document.querySelectorAll('figure svg text')].map(t => t.getBoundingClientRect().height));
"""
WORDS = """
return [...document.querySelectorAll('figure svg')].map(s => [...s.querySelectorAll('text')].map(t => t.textContent));
"""
# Verdicts that do not lie on the screen as a whole, and those with another number of their row above them.
VERDICTS_AWAY = """
return [...document.querySelectorAll('.verdicts tbody tr')].flatMap(row => {
  const [arm, verdict, ...others] = [...row.children].map(cell => cell.getBoundingClientRect());
  const seen = verdict.width > 0 && verdict.left >= 0 && verdict.right <= document.documentElement.clientWidth;
  return seen && others.every(cell => cell.top >= verdict.top) ? [] : [row.textContent];
});
"""
WIDER_THAN_THE_SCREEN = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    results = trained(tmp_path_factory.mktemp("sweep"))
    figure, axis = panels(5, 3)
    axis.plot([1, 2], [3, 4])
    axis.set(xlabel="steps", ylabel="loss")
    checked = [
        check_claim(
            "a claim in quite a number of words, as they usually come", "0.2 (Somebody et al. 2020)", [0.1, 0.2, 0.3]
        )
    ]
    claims.write(results.workdir, checked, {"mine": (figure, "A picture of the experiment's own.")})
    return page.write(results)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_page_can_be_read(browser, report, size):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size is PHONE},
    )
    browser.get(report.as_uri())
    assert not browser.get_log("browser")
    assert browser.execute_script("return document.querySelectorAll('figure svg').length") == 3
    assert browser.execute_script(WIDER_THAN_THE_SCREEN) <= 0
    assert browser.execute_script("return document.querySelectorAll('.verdicts tbody tr').length") == 3
    assert not browser.execute_script(VERDICTS_AWAY)
    assert browser.execute_script(SMALLEST_LETTERS) >= 8
    assert not browser.execute_script(OVERLAPS)
    assert not browser.execute_script(OUTSIDE)


def test_axes_say_what_they_are(browser, report):
    browser.get(report.as_uri())
    words = browser.execute_script(WORDS)
    mine, differences, losses = (set(found) for found in words)
    assert {"steps", "loss"} <= mine
    assert any("difference from plain" in word for word in differences)
    assert {"steps", "tokens", "training FLOPs", "valid/loss"} <= losses


def test_the_checks_see_what_is_wrong(browser, tmp_path):
    (tmp_path / "bad.html").write_text(
        "<figure><svg width='100' height='50'><text x='5' y='20'>first</text><text x='8' y='22'>second</text>"
        "<text x='95' y='40'>outside</text></svg></figure><div style='width: 3000px'>wide</div><div class='verdicts'><table>"
        "<tr><td style='min-width: 3000px'>arm<td>worse<td>0.1</table></div><script>nothing()</script>"
    )
    browser.get((tmp_path / "bad.html").as_uri())
    assert browser.execute_script(OVERLAPS) == ["first / second"]
    assert browser.execute_script(OUTSIDE) == ["outside"]
    assert browser.execute_script(VERDICTS_AWAY) == ["armworse0.1"]
    assert browser.execute_script(WIDER_THAN_THE_SCREEN) > 0
    assert browser.get_log("browser")
