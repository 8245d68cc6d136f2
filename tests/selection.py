"""Which tests ``make test`` leaves to ``make test-all`` (``pytest --all``): those marked ``slow``, as others show the same
in a smaller case, and of a table of cases marked ``every(k)`` all but every k-th. Where tests are named nothing is left out:
``pytest -k NAME`` runs all there are of a variant.
"""

import zlib
from collections.abc import Sequence

import pytest


def left_out(items: Sequence[pytest.Item]) -> set[pytest.Item]:
    found = {item for item in items if item.get_closest_marker("slow")}
    tables: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("every"):
            tables.setdefault(item.nodeid.split("[")[0], []).append(item)
    for name, cases in tables.items():
        (step,) = cases[0].get_closest_marker("every").args
        # Tables begin at different cases, so that one has what another leaves out.
        begin = zlib.crc32(name.encode()) % min(step, len(cases))
        found |= set(cases) - set(cases[begin::step])
    return found


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.all or config.option.keyword or any("::" in name for name in config.args):
        return
    unwanted = left_out(items)
    config.hook.pytest_deselected(items=[item for item in items if item in unwanted])
    items[:] = [item for item in items if item not in unwanted]
