"""The contestants of a measurement: ours, and those peers that can run on this machine."""

import importlib.util
import shutil
from typing import Any

from benchmarks.worker import Worker

OURS = "gpt_jax"


class Contest:
    """A process for each contestant; a peer that cannot run is left out, and ``skipped`` says why.

    Args:
      ours: the mode our worker runs in, by the contestant's name.
      peers: the modes of the peer's worker, by the contestants' names. The mode "compile" is torch.compile.
    """

    def __init__(self, ours: dict[str, str], peers: dict[str, str]):
        self.modes = {**ours, **peers}
        self.skipped = {name: reason for name, mode in peers.items() if (reason := unavailable(mode))}
        self._workers = {
            name: Worker(name, "jax_worker" if name in ours else "torch_worker")
            for name in self.modes
            if name not in self.skipped
        }
        self.first: dict[str, float] = {}

    @property
    def names(self) -> list[str]:
        return list(self._workers)

    def start(self, command: str, **arguments: Any) -> None:
        """Makes everyone ready with ``command``; a peer that fails is left out from here on.

        Raises:
          RuntimeError: ours failed.
        """
        for name in self.names:
            try:
                self.first[name] = self(name, command, **arguments)
            except RuntimeError as error:
                if name == OURS:
                    raise
                self.skipped[name] = str(error)
                self._workers.pop(name).close()

    def __call__(self, name: str, command: str, **arguments: Any) -> Any:
        """What a contestant answers to a command that takes its mode."""
        return self.ask(name, command, mode=self.modes[name], **arguments)

    def ask(self, name: str, command: str, **arguments: Any) -> Any:
        return self._workers[name](command, **arguments)

    def report(self) -> dict[str, Any]:
        for name, reason in self.skipped.items():
            print(f"without {name}: {reason}", flush=True)
        return {"first_call_seconds": self.first, "skipped": self.skipped}

    def __enter__(self) -> "Contest":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()


def unavailable(mode: str) -> str:
    """Why the peer cannot run in this mode here, or nothing."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (requirements/bench.txt)"
    return "torch.compile needs a C++ compiler" if mode == "compile" and not shutil.which("c++") else ""
