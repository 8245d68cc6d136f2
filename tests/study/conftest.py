"""A browser for the pages of studies."""

import pytest

from tests import browser as browsers


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsers.opened(tmp_path_factory.mktemp("browser")) as driver:
        yield driver
