"""What opening a configuration's data says against it."""

import pytest

from gpt_jax.data.open import open_data
from gpt_jax.errors import UserError


def refused(config, match: str) -> UserError:
    with pytest.raises(UserError, match=match) as error:
        open_data(config)
    return error.value
