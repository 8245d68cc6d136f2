import dataclasses
import typing
from pathlib import Path

import pytest

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.data.examples import Examples

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"


@pytest.fixture
def make_config(tmp_path):
    """make_config(source=..., context=..., other data knobs): base.py's config with a cache of the test's own."""

    def make(context: int = 8, **data) -> Config:
        types = typing.get_type_hints(Config)
        values = {name: types[name](**dict(section)) for name, section in base.get_config().items()}
        config = Config(**values)
        data = {"cache": str(tmp_path / "cache"), **data}
        return dataclasses.replace(
            config,
            model=dataclasses.replace(config.model, context=context),
            data=dataclasses.replace(config.data, **data),
        )

    return make


@pytest.fixture
def source(make_config):
    """source(call, other data knobs): the examples of a source."""

    def build(call, **data) -> Examples:
        return registry.build("data.sources", call, make_config(**data))

    return build


@pytest.fixture
def shakespeare() -> Path:
    path = SHARED / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip("tinyshakespeare.txt is not on this machine")
    return path


@pytest.fixture
def gpt2_folder() -> Path:
    path = SHARED / "gpt2_bpe"
    if not path.is_dir():
        pytest.skip("GPT-2's tokenizer files are not on this machine")
    return path
