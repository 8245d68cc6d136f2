"""The page beside other clients of its server, and what a server may refuse it."""

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.serve import served
from tests.serve.page.acting import all_of, one, put, said, severe, texts, wait


def asked(running, seed, *messages):
    """What the server says to other clients."""
    knobs = {"temperature": 0.8, "seed": seed, "max_tokens": 20}
    return (
        running.client().chat.completions.create(model="letters", messages=messages, **knobs).choices[0].message.content
    )


def test_what_it_shows_is_what_the_server_says(page, running):
    put(page, "max_tokens", "20")
    said(page, "the cat")
    hello = {"role": "user", "content": "the cat"}
    first = texts(page, ".answer")[0]
    assert first == asked(running, 0, hello)
    said(page, "sat")
    answered = {"role": "assistant", "content": first}
    assert texts(page, ".answer")[1] == asked(running, 0, hello, answered, {"role": "user", "content": "sat"})
    assert all_of(page, ".t") and not severe(page)
    one(page, ".again").click()
    wait(page, lambda: any("seed 1" in line for line in texts(page, ".about .facts")))
    assert texts(page, ".answer")[1] == asked(running, 1, hello, answered, {"role": "user", "content": "sat"})


def test_a_run_without_a_template_says_so(page):
    Select(one(page, ".column select")).select_by_visible_text("plain")
    said(page, "hello")
    assert "without a chat template" in texts(page, "[role=alert]")[0]
    severe(page)


def test_a_server_with_a_key_asks_for_it(browser, runs):
    with served.serving([runs["letters"]], key="secret") as running:
        browser.get(running.url)
        wait(browser, lambda: one(browser, "#settings").get_property("open"))
        one(browser, "#key").send_keys("secret" + Keys.TAB)
        wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".column option"))
        put(browser, "max_tokens", "5")
        said(browser, "hello")
        assert texts(browser, ".answer")[0] and not all_of(browser, ".error")
        severe(browser)
