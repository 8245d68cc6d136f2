"""A browser, and a small server of the page: a tiny model behind the routes that the page calls."""

import threading
import time

import pytest

import gpt_jax
import launch
from tests import browser as browsers
from tests.serve.page import small_server
from tests.train import tiny


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsers.opened(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    knobs = {"model__position": "none", "model__context": 512, "train__batch": 8, "train__steps": 2}
    argv = tiny.command(tiny.write_text(folder), folder / "q", data__template="chatml", **knobs)
    assert launch.main(argv) == 0
    return gpt_jax.load(folder / "q")


@pytest.fixture(scope="module")
def address(model):
    uvicorn = pytest.importorskip("uvicorn")
    config = uvicorn.Config(small_server.application(model), port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    listening = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while thread.is_alive() and not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    server.force_exit = True
    thread.join(30)
