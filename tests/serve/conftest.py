import pytest

from tests.serve import served


@pytest.fixture(scope="session")
def workdirs(tmp_path_factory):
    return served.made(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def running(workdirs):
    """Both runs, served."""
    with served.serving([workdirs["chat"], workdirs["plain"]]) as found:
        yield found


@pytest.fixture(scope="module")
def client(running):
    return running.client()
