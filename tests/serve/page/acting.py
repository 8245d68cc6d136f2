"""What a user does with the page, and what there is to see then."""

import contextlib

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 120
SLOW = 16 * 1024  # bytes a second, of which an answer of 80 tokens takes some seconds


def opened(browser, url):
    """The page, fresh and wide."""
    browser.set_window_size(1200, 800)
    browser.get(url)
    wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".column option"))
    return browser


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


@contextlib.contextmanager
def slow_network(browser):
    browser.set_network_conditions(latency=0, download_throughput=SLOW, upload_throughput=SLOW)
    try:
        yield
    finally:
        browser.delete_network_conditions()


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


def severe(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
