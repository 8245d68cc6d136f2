"""The page for those who see little, use no mouse, or trust no server: contrast, names, and a file that loads nothing."""

import re

import pytest

from gpt_jax.serve import page as pages
from tests.serve.page.acting import put, said

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read(page, scheme):
    """In both schemes every text stands out from what is behind it by the 4.5 to 1 of WCAG 2.1, level AA."""
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    try:
        colours = page.execute_script(
            "const style = getComputedStyle(document.documentElement);"
            "return Object.fromEntries(['back', 'front', 'soft', 'faint', 'accent', 'bad'].map("
            "(name) => [name, style.getPropertyValue('--' + name).trim()]))"
        )
        assert (luminance(colours["back"]) > 0.5) == (scheme == "light")
        for back, front in [("back", "front"), ("back", "faint"), ("back", "bad"), ("soft", "front")]:
            high, low = sorted((luminance(colours[back]), luminance(colours[front])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (back, front)
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def luminance(colour):
    """Relative luminance of #rgb or #rrggbb (WCAG 2.1)."""
    digits = colour.lstrip("#")
    pairs = [2 * d for d in digits] if len(digits) == 3 else [digits[i : i + 2] for i in (0, 2, 4)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (int(p, 16) / 255 for p in pairs)]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_everything_has_a_name(page):
    """What can be used has a label for those who do not see it."""
    put(page, "max_tokens", "5")
    said(page, "hello")
    nameless = page.execute_script(
        "return [...document.querySelectorAll('button, input, select, textarea, main, [role=log], [role=group]')]"
        ".filter((e) => !(e.ariaLabel || e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML)"
    )
    assert not nameless


def test_the_file_is_whole_and_inert():
    content = pages.FILE.read_text("utf-8")
    assert len(re.findall(r"<style", content)) == len(re.findall(r"<script", content)) == 1
    assert not re.search(r"\s(on\w+|style)=", content.partition("<body>")[2].partition("<script>")[0])
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|https?://|url\(", content)
    assert pages.page()[1].count("sha256-") == 2
