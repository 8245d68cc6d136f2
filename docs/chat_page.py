"""Draws the chat page with a conversation: ``python -m docs.chat_page --workdir=runs/chat`` rewrites docs/chat.png."""

import argparse
import tempfile
import threading
import time
from pathlib import Path

from gpt_jax.serve import runs
from gpt_jax.serve.server import Server
from gpt_jax.serve.settings import Bounds
from tests import browser

SAID = ("My cat is called Tom.", "What is my cat called?", "Hello!")
SIZE = (900, 640)
PATIENCE = 300.0  # seconds
AT_REST = "return document.querySelector('#stop').disabled && !document.querySelector('.going')"
LEAST_LIKELY = """
const tokens = [...[...document.querySelectorAll(".answer")].at(-1).querySelectorAll(".t")];
return tokens.reduce((one, other) => (other.token.logprob < one.token.logprob ? other : one));
"""
READY = "return document.querySelectorAll('.column option').length > 0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", required=True, help="a run that was tuned on dialogues")
    parser.add_argument("--to", default=str(Path(__file__).with_name("chat.png")))
    parser.add_argument("--say", nargs="+", default=SAID, help="messages")
    given = parser.parse_args()
    server = Server(runs.opened([Path(given.workdir)]), Bounds(rows=1), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_until_stopped)
    thread.start()
    try:
        with tempfile.TemporaryDirectory() as folder, browser.opened(Path(folder)) as driver:
            draw(driver, server, given.say, given.to)
    finally:
        server.should_exit = True
        thread.join()
    print(given.to)


def draw(driver, server: Server, said: list[str], to: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    until(lambda: server.started and server.engine.well)
    driver.set_window_size(*SIZE)
    driver.get(f"http://127.0.0.1:{server.port}/")
    until(lambda: driver.execute_script(READY))
    for message in said:
        driver.find_element(By.ID, "message").send_keys(message + Keys.ENTER)
        until(lambda: driver.execute_script(AT_REST))
    ActionChains(driver).move_to_element(driver.execute_script(LEAST_LIKELY)).perform()
    driver.save_screenshot(to)


def until(holds) -> None:
    """Waits until something holds.

    Raises:
      TimeoutError: it does not.
    """
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {PATIENCE:.0f} s")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
