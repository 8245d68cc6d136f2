"""The chat page in a browser: what is said, shown, stopped and kept, under the policy that it is served with."""

import json
import re
import time

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.serve.page.small_server import MARKUP, NEW, PAGE, held, policy

PATIENCE = 120


@pytest.fixture
def page(browser, address):
    """The page, fresh and wide; whatever the browser has to complain about fails the test."""
    browser.set_window_size(1200, 800)
    browser.get(address)
    wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".column option"))
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] not in ("DEBUG", "INFO")] == []


def wait(browser, done):
    return WebDriverWait(browser, PATIENCE, 0.05).until(lambda _: done())


def all_of(browser, selector):
    return browser.find_elements(By.CSS_SELECTOR, selector)


def one(browser, selector):
    (found,) = all_of(browser, selector)
    return found


def texts(browser, selector):
    """As they stand in the page, with the line ends of what was typed."""
    return [element.get_property("textContent") for element in all_of(browser, selector)]


def put(browser, name, value):
    one(browser, "#settings").find_element(By.TAG_NAME, "summary").click() if not is_open(browser) else None
    field = one(browser, f"#{name}")
    field.clear()
    field.send_keys(value)


def is_open(browser):
    return one(browser, "#settings").get_property("open")


def said(browser, message):
    """Says something and waits for all answers."""
    one(browser, "#message").send_keys(message + Keys.ENTER)
    ended(browser)


def ended(browser):
    wait(browser, lambda: not one(browser, "#stop").is_enabled() and not all_of(browser, ".going"))


def about(browser):
    return texts(browser, ".about .facts")


def test_an_answer_arrives_in_parts(page, model):
    one(page, "#message").send_keys("two" + Keys.SHIFT + Keys.ENTER)
    one(page, "#message").send_keys(Keys.NULL + "lines" + Keys.ENTER)
    lengths = set()
    while not (lengths and about(page)):
        lengths.add(len((texts(page, ".answer") or [""])[0]))
        assert one(page, "#message").get_property("value") == ""
    assert len(lengths) > 5
    answer = texts(page, ".answer")[0]
    assert texts(page, ".user") == ["two\nlines"] and set(answer) <= set("abcdef \u00e9\U0001f600")
    knobs = {"temperature": 0.8, "top_p": 1.0, "seed": 0, **held("letters", NEW)}
    messages = [{"role": "user", "content": "two\nlines"}]
    assert answer == model.generate(messages, **knobs).text
    assert page.switch_to.active_element.get_attribute("id") == "message"


def test_the_conversation_goes_on(page, model):
    put(page, "max_tokens", "8")
    put(page, "system", "Be kind.")
    put(page, "seed", "5")
    said(page, "hello")
    said(page, "and?")
    first, second = texts(page, ".answer")
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "and?"}]
    assert second == model.generate(messages, seed=5, **held("letters", 8)).text
    assert all(line.startswith("seed 5 · ") for line in about(page))


def test_turns_that_do_not_fit_are_left_out(page):
    for text in ("a" * 250, "b" * 250, "c" * 20):
        said(page, text)
    assert "without the first turn" in about(page)[1]
    assert "without the first turn" in about(page)[2]
    said(page, "d" * 500)
    assert texts(page, ".error") == ["too long"] and len(all_of(page, ".user")) == 4
    logged = [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert all("400 (Bad Request)" in entry["message"] for entry in logged)  # which browsers write down


@pytest.mark.parametrize("how", ["button", "key"])
def test_stop(page, how):
    one(page, "#message").send_keys("hello" + Keys.ENTER)
    wait(page, lambda: len(texts(page, ".answer")[0]) > 5)
    one(page, "#stop").click() if how == "button" else one(page, "#message").send_keys(Keys.ESCAPE)
    ended(page)
    stopped = texts(page, ".answer")[0]
    assert "stopped" in about(page)[0] and 5 < len(stopped) < 79
    time.sleep(0.3)
    assert texts(page, ".answer")[0] == stopped
    put(page, "max_tokens", "5")
    said(page, "again")  # with what was written before it was stopped
    assert len(all_of(page, ".answer")) == 2


def test_regenerate(page):
    put(page, "max_tokens", "20")
    said(page, "hello")
    first = texts(page, ".answer")[0]
    one(page, ".again").click()
    wait(page, lambda: any("seed 1" in line for line in about(page)))
    second = texts(page, ".answer")[0]
    assert first != second and len(all_of(page, ".user")) == 1
    said(page, "more")
    assert len(all_of(page, ".again")) == 1 and "seed 0" in about(page)[1]


def test_two_runs_side_by_side(page):
    one(page, "#add").click()
    left, right = all_of(page, ".column")
    assert [Select(one(c, "select")).first_selected_option.text for c in (left, right)] == ["letters", "markup"]
    assert left.rect["y"] == right.rect["y"] and left.rect["x"] + left.rect["width"] <= right.rect["x"] + 1
    said(page, "hello")
    assert texts(page, ".user") == ["hello", "hello"]
    assert texts(right, ".answer") == [MARKUP] != texts(left, ".answer")
    one(left, ".remove").click()
    assert len(all_of(page, ".column")) == 1
    one(page, ".remove").click()  # the last one stays
    assert len(all_of(page, ".column")) == 1


def test_markup_is_shown_as_text(page):
    """Of the user, of the model, and of the alternatives."""
    Select(one(page, ".column select")).select_by_visible_text("markup")
    said(page, MARKUP)
    assert texts(page, ".user") == texts(page, ".answer") == [MARKUP]
    ActionChains(page).move_to_element(all_of(page, ".t")[0]).perform()
    assert '"<"' in one(page, "#alternatives").text
    assert not all_of(page, "main img, main script") and page.title == "gpt_jax: chat"


def test_tokens_show_their_alternatives(page):
    put(page, "max_tokens", "12")
    said(page, "hello")
    spans = all_of(page, ".t")
    assert "".join(texts(page, ".t")) == texts(page, ".answer")[0]
    assert all(re.fullmatch(r"t l[0-5]", span.get_attribute("class")) for span in spans)
    assert not one(page, "#alternatives").is_displayed()
    ActionChains(page).move_to_element(spans[1]).perform()
    shown = one(page, "#alternatives").text.splitlines()
    assert len(shown) == 7 and all("%" in line for line in (shown[0], *shown[2:]))
    shares = [float(line.split("%")[0]) for line in shown[2:]]
    assert shares == sorted(shares, reverse=True)
    # by the keyboard: one stop for all tokens, then the arrows
    page.execute_script("arguments[0].focus()", spans[0])
    ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()
    assert page.switch_to.active_element == spans[1]
    assert [span.get_property("tabIndex") for span in spans].count(0) == 1
    assert one(page, "#alternatives").is_displayed()
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert not one(page, "#alternatives").is_displayed()
    one(page, "#colours").click()
    said(page, "plain")
    assert not all_of(all_of(page, ".answer")[1], ".t") and texts(page, ".answer")[1]


def test_export(page, tmp_path):
    page.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    put(page, "max_tokens", "6")
    said(page, "hello")
    one(page, "#export").click()
    wait(page, lambda: (tmp_path / "chat.json").exists())
    record = json.loads((tmp_path / "chat.json").read_text("utf-8"))
    (kept,) = record["conversations"]
    answer = texts(page, ".answer")[0]
    assert kept["messages"] == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": answer}]
    (turn,) = kept["turns"]
    assert (turn["seed"], turn["max_tokens"], turn["model"], turn["answer"]) == (0, 6, "letters", answer)
    assert len(turn["logprobs"]) == 6
    one(page, "#clear").click()
    assert not all_of(page, ".user, .answer")


def test_what_a_server_says_is_shown(page):
    put(page, "temperature", "9")
    one(page, "#message").send_keys("hello" + Keys.ENTER)
    assert not all_of(page, ".user")  # the browser says what is allowed
    put(page, "temperature", "1")
    body = json.dumps(json.dumps({"error": {"message": "<b>busy</b>"}}))
    page.execute_script(f"window.fetch = async () => new Response({body}, {{status: 429}})")
    one(page, "#message").send_keys(Keys.ENTER)
    wait(page, lambda: all_of(page, "[role=alert]"))
    assert texts(page, "[role=alert]") == ["<b>busy</b>"] and one(page, ".again").is_enabled()


def test_on_a_phone(page):
    size = {"width": 360, "height": 640, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        one(page, "#add").click()
        put(page, "max_tokens", "30")
        page.execute_script("arguments[0].open = false", one(page, "#settings"))
        said(page, "a long word: " + "x" * 80)
        assert page.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [360, 360]
        for column in all_of(page, ".column"):
            assert column.rect["width"] == 360
            assert page.execute_script(
                "return arguments[0].scrollWidth <= arguments[0].clientWidth", one(column, ".log")
            )
        for name in ("send", "stop", "message"):
            rect = one(page, f"#{name}").rect
            assert rect["x"] >= 0 and rect["x"] + rect["width"] <= 360 and rect["y"] + rect["height"] <= 640
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


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
    said(page, "hello")
    nameless = page.execute_script(
        "return [...document.querySelectorAll('button, input, select, textarea, main, [role=log], [role=group]')]"
        ".filter((e) => !(e.ariaLabel || e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML)"
    )
    assert not nameless


def test_the_file_is_whole_and_inert():
    content = PAGE.read_text("utf-8")
    assert len(re.findall(r"<style", content)) == len(re.findall(r"<script", content)) == 1
    assert not re.search(r"\s(on\w+|style)=", content.partition("<body>")[2].partition("<script>")[0])
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|https?://|url\(", content)
    assert policy(content.encode()).count("sha256-") == 2
