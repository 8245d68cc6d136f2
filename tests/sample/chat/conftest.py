"""A tiny run with the tokens of ChatML, which has learned nothing."""

import pytest

import gpt_jax
import launch
from tests.train import tiny


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Makes such a run with a template."""
    folder = tmp_path_factory.mktemp("chats")
    text = tiny.write_text(folder)

    def run(template, **changes):
        knobs = {"data__template": template, "model__position": "none", "model__context": 128, "train__batch": 8}
        argv = tiny.command(text, folder / template, **(knobs | {"train__steps": 2} | changes))
        assert launch.main([*argv, "--config.sample.max_new_tokens=12"]) == 0
        return folder / template

    return run


@pytest.fixture(scope="session")
def workdir(trained):
    return trained("chatml")


@pytest.fixture(scope="session")
def model(workdir):
    return gpt_jax.load(workdir)
