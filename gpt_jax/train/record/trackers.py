"""Copies of the metrics for viewers: TensorBoard files and Weights & Biases.

metrics.jsonl is the record; these are conveniences, so a sink that fails warns once and is left out from then on.
All of their work, imports included, happens on one thread of its own: a call costs the training loop microseconds.
"""

import importlib.util
import queue
import threading
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from gpt_jax.errors import UserError
from gpt_jax.storage import read_json, write_json


class Sink(Protocol):
    """What a destination of metrics can do."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def text(self, step: int, name: str, text: str) -> None: ...

    def close(self) -> None: ...


class Trackers:
    """The sinks a run asks for.

    Args:
      workdir: the run directory.
      tensorboard: write event files to workdir/tensorboard.
      wandb: project to log to; empty = off.
      config: the run's settings as a nested dict, shown beside its curves.
      resume_step: completed updates that the run resumes from (-1 = a new run); what was shown past it is withdrawn.

    Raises:
      UserError: wandb is asked for and is not installed, or refuses to start.
    """

    def __init__(self, workdir: str | Path, tensorboard: bool, wandb: str, config: Mapping[str, Any], resume_step: int):
        self._sinks: dict[str, Sink] = {}
        if tensorboard and importlib.util.find_spec("tensorboardX"):
            self._sinks["tensorboard"] = _TensorBoard(Path(workdir), resume_step)
        elif tensorboard:
            warnings.warn("train.tensorboard: tensorboardX is not installed; no event files are written", stacklevel=2)
        if wandb:
            self._sinks["wandb"] = _Wandb(Path(workdir), wandb, config)
        self._queue: queue.SimpleQueue[Callable[[Sink], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="trackers", daemon=True)
        if self._sinks:
            self._thread.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Sends scalars, by name, of a step."""
        if self._sinks:
            values = dict(values)
            self._queue.put(lambda sink: sink.scalars(step, values))

    def text(self, step: int, name: str, text: str) -> None:
        """Sends a text, such as a sample, of a step."""
        if self._sinks:
            self._queue.put(lambda sink: sink.text(step, name, text))

    def close(self) -> None:
        """Waits until everything sent is written."""
        if self._thread.is_alive():
            self._queue.put(lambda sink: sink.close())
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            for name, sink in list(self._sinks.items()):
                try:
                    call(sink)
                except Exception as error:  # whatever a service may raise, training continues
                    del self._sinks[name]
                    warnings.warn(f"{name} is off from here on: {error!r}", stacklevel=1)


class _TensorBoard:
    """Event files; the first call imports tensorboardX and opens them."""

    def __init__(self, workdir: Path, resume_step: int):
        self._folder, self._purge, self._opened = str(workdir / "tensorboard"), resume_step + 1, None

    def _writer(self) -> Any:
        if self._opened is None:
            from tensorboardX import SummaryWriter

            self._opened = SummaryWriter(self._folder, purge_step=self._purge, flush_secs=10)
        return self._opened

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer().add_scalar(name, float(value), step)

    def text(self, step: int, name: str, text: str) -> None:
        indented = "\n".join(f"    {line}" for line in text.split("\n"))  # a verbatim block in Markdown
        self._writer().add_text(name, indented, step)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


class _Wandb:
    """One W&B run per workdir; its id is kept in wandb.json, so that a resumed run continues the same curves."""

    def __init__(self, workdir: Path, project: str, config: Mapping[str, Any]):
        if importlib.util.find_spec("wandb") is None:
            raise UserError(
                "wandb is not installed",
                where="config.train.wandb",
                fix="pip install wandb, or leave config.train.wandb empty",
            )
        import wandb

        identity = read_json(workdir / "wandb.json", missing={"id": uuid.uuid4().hex[:12]})
        try:
            self._run = wandb.init(
                project=project,
                id=identity["id"],
                resume="allow",
                dir=str(workdir),
                name=workdir.name,
                config=dict(config),
            )
        except Exception as error:
            raise UserError(
                f"wandb does not start: {error}",
                where="config.train.wandb",
                fix="log in with `wandb login`, set WANDB_MODE=offline, or leave config.train.wandb empty",
            ) from error
        write_json(workdir / "wandb.json", identity)
        self._html = wandb.Html
        # Our own axis: W&B's internal step only grows, so it would refuse the steps that a resumed run repeats.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def text(self, step: int, name: str, text: str) -> None:
        import html

        self._run.log({name: self._html(f"<pre>{html.escape(text)}</pre>"), "step": step})

    def close(self) -> None:
        self._run.finish()
