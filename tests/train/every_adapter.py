"""``python -m tests.train.every_adapter``: every adapter of every variant, merged and unmerged, and of families by PEFT."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.interop import test_peft
from tests.train.adapted import ADAPTERS
from tests.train.test_adapters import VARIANTS, check_merged


def cases() -> Iterator[tuple[str, Callable]]:
    for kind, call in VARIANTS:
        for adapter in ADAPTERS:
            yield f"{kind} {call} {adapter}", lambda c=(kind, call, adapter): check_merged(*c)
    for name in test_peft.FAMILIES:
        for adapter in test_peft.CALLS:
            yield f"{name} {adapter}", lambda c=(name, adapter): with_peft(*c)


def with_peft(name: str, adapter: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        test_peft.check(test_peft.unpacked(), name, adapter, Path(folder))


if __name__ == "__main__":
    failed = 0
    for name, check in cases():
        try:
            check()
            print("ok    ", name, flush=True)
        except Exception as error:
            failed += 1
            print("FAILED", name, f"{type(error).__name__}: {error}", flush=True)
    sys.exit(failed > 0)
