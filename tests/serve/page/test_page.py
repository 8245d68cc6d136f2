"""The chat page in a browser: what is said, shown, stopped and kept, under the policy that it is served with."""

import json
import re
import time

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from gpt_jax.serve import faults
from gpt_jax.serve.settings import Bounds
from tests.serve.page.acting import about, all_of, ended, one, put, said, severe, slow_network, texts, wait
from tests.serve.page.conftest import MARKUP

NEW = 80  # tokens of a long answer


def test_an_answer_arrives_in_parts(page, model):
    put(page, "max_tokens", str(NEW))
    lengths = set()
    with slow_network(page):
        one(page, "#message").send_keys("two" + Keys.SHIFT + Keys.ENTER)
        one(page, "#message").send_keys(Keys.NULL + "lines" + Keys.ENTER)
        while not (lengths and about(page)):
            lengths.add(len((texts(page, ".answer") or [""])[0]))
            assert one(page, "#message").get_property("value") == ""
    assert len(lengths) > 5
    assert texts(page, ".user") == ["two\nlines"]
    assert texts(page, ".answer") == [said_by(model, NEW, 0, ("user", "two\nlines"))]
    assert page.switch_to.active_element.get_attribute("id") == "message"


def said_by(model, new, seed, *messages):
    """What the model itself says."""
    asked = [{"role": role, "content": content} for role, content in messages]
    return model.generate(asked, temperature=0.8, top_p=1.0, seed=seed, max_new_tokens=new).text


def test_the_conversation_goes_on(page, model):
    put(page, "max_tokens", "8")
    put(page, "system", "Be kind.")
    put(page, "seed", "5")
    said(page, "hello")
    said(page, "and?")
    first, second = texts(page, ".answer")
    turns = ("system", "Be kind."), ("user", "hello"), ("assistant", first), ("user", "and?")
    assert second == said_by(model, 8, 5, *turns)
    assert all(line.startswith("seed 5 · ") for line in about(page))


def test_turns_that_do_not_fit_are_left_out(page):
    put(page, "max_tokens", str(NEW))
    for text in ("a" * 250, "b" * 250, "c" * 20):
        said(page, text)
    assert "without the first turn" in about(page)[1]
    assert "without the first turn" in about(page)[2]
    said(page, "d" * 500)
    (error,) = texts(page, ".error")
    assert "This model's context is 512 tokens." in error and len(all_of(page, ".user")) == 4
    assert all("400 (Bad Request)" in message for message in severe(page))  # which browsers write down


@pytest.mark.parametrize("how", ["button", "key"])
def test_stop(page, how):
    put(page, "max_tokens", str(NEW))
    with slow_network(page):
        one(page, "#message").send_keys("hello" + Keys.ENTER)
        wait(page, lambda: len(texts(page, ".answer")[0]) > 5)
        one(page, "#stop").click() if how == "button" else one(page, "#message").send_keys(Keys.ESCAPE)
        ended(page)
    stopped = texts(page, ".answer")[0]
    assert "stopped" in about(page)[0] and 5 < len(stopped) < NEW - 10
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
    put(page, "temperature", "0")
    put(page, "max_tokens", "90")
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
    put(page, "temperature", "0")
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


def test_what_a_server_says_is_shown(page, running, monkeypatch):
    put(page, "temperature", "9")
    one(page, "#message").send_keys("hello" + Keys.ENTER)
    assert not all_of(page, ".user")  # the browser says what is allowed
    put(page, "temperature", "1")
    with monkeypatch.context() as patch:
        patch.setattr(running.engine, "_bounds", Bounds(queue=0))
        one(page, "#message").send_keys(Keys.ENTER)
        wait(page, lambda: all_of(page, "[role=alert]"))
    assert texts(page, "[role=alert]") == [faults.full().body["error"]["message"]]
    (logged,) = severe(page)
    assert "429 (Too Many Requests)" in logged
    one(page, "#clear").click()
    body = json.dumps(json.dumps({"error": {"message": "<b>busy</b>"}}))
    page.execute_script(f"window.fetch = async () => new Response({body}, {{status: 429}})")
    one(page, "#message").send_keys("hello" + Keys.ENTER)
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
