"""The one thread that computes: it takes tickets from a bounded queue and writes their texts, side by side in rows."""

import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import jax

from gpt_jax.errors import NonFiniteError, UserError
from gpt_jax.sample.continuous import ContinuousBatch
from gpt_jax.serve import faults
from gpt_jax.serve.metrics import Metrics
from gpt_jax.serve.moderation.filters import Rule
from gpt_jax.serve.runs import ServedRun
from gpt_jax.serve.settings import Bounds
from gpt_jax.serve.tickets import Piece, Text, Ticket
from gpt_jax.serve.writing import WrittenText

SECONDS = 0.05  # between two looks at what rows have written, about
MOST = 16  # tokens a row that are written between them
STUCK = 60.0  # seconds without a look, while there is work, after which the engine no longer counts as well


class Engine:
    """
    Args:
      runs: what is served; run i on device i, and so on from the first again.
      rules: what answers may not say.

    Attributes:
      failed: the error that ended it, which is of no single request; None where there was none.
    """

    def __init__(self, runs: Sequence[ServedRun], bounds: Bounds, metrics: Metrics, rules: Sequence[Rule] = ()):
        devices = jax.local_devices()
        self._bounds = bounds
        self._writers = [
            RunWriter(run, run.batch(bounds, devices[i % len(devices)]), metrics, rules) for i, run in enumerate(runs)
        ]
        self._changed = threading.Condition()
        self._new: deque[Ticket] = deque()  # that no writer has been given yet
        self._open: list[Ticket] = []
        self._ready = self._draining = self._stopped = False
        self._looked = time.monotonic()
        self.failed: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        metrics.gauge("queue_requests", "Requests that wait for a row.", lambda: {(): self.waiting})
        rows = "Rows that are in use, by run."
        metrics.gauge("rows_in_use", rows, lambda: {(("model", w.run.name),): w.in_use for w in self._writers})
        metrics.gauge("rows", "Rows that there are, of each run.", lambda: {(): bounds.rows})

    def start(self) -> None:
        self._thread.start()

    @property
    def well(self) -> bool:
        """Whether a request would be answered."""
        alive = self.going and self._ready and not self._draining
        return alive and (self.idle or time.monotonic() - self._looked < STUCK)

    @property
    def going(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Requests of which no text has begun."""
        return len(self._new) + sum(writer.waiting for writer in self._writers)

    @property
    def idle(self) -> bool:
        return not self._open

    def submit(self, ticket: Ticket) -> None:
        """Queues a request.

        Raises:
          Fault: the server is starting or stopping, or too many requests wait.
        """
        with self._changed:
            if self._draining:
                raise faults.stopping()
            if not self._ready:
                raise faults.starting()
            if self.waiting >= self._bounds.queue:
                raise faults.full()
            if self.idle:  # without work there was nothing to look at
                self._looked = time.monotonic()
            self._new.append(ticket)
            self._open.append(ticket)
            self._changed.notify()

    def drain(self) -> None:
        """Takes no more requests; those that it has are finished."""
        with self._changed:
            self._draining = True
            self._changed.notify()

    def stop(self) -> None:
        """Has the thread end after its next look, or what it compiles now; it is not waited for."""
        with self._changed:
            self._draining = self._stopped = True
            self._changed.notify()

    def _work(self) -> None:
        try:
            self._write()
        except Exception as error:  # faults in requests end in ``RunWriter.turn``
            with self._changed:
                self._draining = True
                for ticket in self._open:
                    ticket.send(faults.broken())
                self._open, self.failed = [], error

    def _write(self) -> None:
        for writer in self._writers:
            writer.batch.warm(lambda: self._stopped)
        self._ready = True
        while self._given():
            for writer in self._writers:
                writer.turn()
            self._looked = time.monotonic()
            with self._changed:
                self._open = [ticket for ticket in self._open if not ticket.over]

    def _given(self) -> bool:
        """Hands new tickets to their writers, and waits where there is nothing to do. False once the engine is stopped."""
        with self._changed:
            while not (self._new or self._stopped or any(writer.busy for writer in self._writers)):
                self._changed.wait()
            while self._new:
                ticket = self._new.popleft()
                next(writer for writer in self._writers if writer.run is ticket.run).take(ticket)
            return not self._stopped


@dataclass
class Active:
    """A text in a row.

    Attributes:
      number: of the text in its request.
      seen: whether a token of it has been seen.
    """

    ticket: Ticket
    number: int
    written: WrittenText
    seen: bool = False

    @property
    def top(self) -> bool:
        return bool(self.ticket.texts[self.number].top)


class RunWriter:
    """Writes what is asked of one run."""

    def __init__(self, run: ServedRun, batch: ContinuousBatch, metrics: Metrics, rules: Sequence[Rule]):
        self.run, self.batch, self._metrics, self._rules = run, batch, metrics, rules
        self._waiting: deque[tuple[Ticket, int]] = deque()  # texts by their number in a request
        self._rows: dict[int, Active] = {}
        self._turns = 1  # until the next look

    @property
    def waiting(self) -> int:
        return sum(number == 0 for _, number in tuple(self._waiting))

    @property
    def busy(self) -> bool:
        """Whether something waits or is in a row, if only to be stopped early."""
        return bool(self._waiting or self._rows)

    @property
    def in_use(self) -> int:
        return len(self._rows)

    def take(self, ticket: Ticket) -> None:
        self._waiting.extend((ticket, number) for number in range(len(ticket.texts)))

    def turn(self) -> None:
        """Begins what there are rows for, and writes some tokens in all of them."""
        try:
            self._expire()
            self._begin()
            if self._rows:
                begun, turns = time.monotonic(), self._turns
                self.batch.advance(turns, len(self._rows) - 1 if self._waiting else 0)
                self._look()
                took = (time.monotonic() - begun) / turns
                self._turns = max(1, min(MOST, int(SECONDS / took)))
        except Exception:  # a fault in one request must not end the server; those beside it get an error too
            traceback.print_exc()
            self._fail()

    def _expire(self) -> None:
        """Gives up what nobody waits for any more, or has waited for too long."""
        now = time.monotonic()
        for ticket in self._tickets():
            if not ticket.over and now > ticket.deadline:
                ticket.send(faults.late())
        self._waiting = deque((ticket, number) for ticket, number in self._waiting if not ticket.over)
        for row in [row for row, active in self._rows.items() if active.ticket.over]:
            self._leave(row)

    def _begin(self) -> None:
        while self._waiting and self.batch.free:
            ticket, number = self._waiting.popleft()
            if ticket.over:
                continue
            text = ticket.texts[number]
            try:
                self._join(ticket, number, text)
            except UserError as error:
                ticket.send(faults.of_user_error(error, "prompt"))

    def _join(self, ticket: Ticket, number: int, text: Text) -> None:
        written = WrittenText(self.run, text, number, self._rules)
        if text.limit:
            row = self.batch.join(text.ids, text.limit, text.sampling, text.seed, bool(text.top))
            self._rows[row] = Active(ticket, number, written)
        self._metrics.count("prompt_tokens_total", len(text.ids), model=self.run.name)
        if text.reads:
            ticket.send(Piece(number, prompt=self.batch.likelihood(text.ids)))
        if not text.limit:
            ticket.send(Piece(number, finish="length"))

    def _look(self) -> None:
        seen = self.batch.look(any(active.top for active in self._rows.values()))
        for row, active in list(self._rows.items()):
            try:
                found, going = self.batch.written(seen, row)
            except (UserError, NonFiniteError) as error:
                fault = (
                    faults.of_user_error(error, "temperature") if isinstance(error, UserError) else faults.not_finite()
                )
                active.ticket.send(fault)
                self._leave(row)
                continue
            if not active.seen:
                active.seen = True
                waited = time.monotonic() - active.ticket.begun
                self._metrics.observe("first_token_seconds", waited, model=self.run.name)
            piece = active.written.advance(found, going)
            if piece is None:
                continue
            active.ticket.send(piece)
            if piece.finish is not None:
                self._ended(piece, active.written)
                self._leave(row)

    def _ended(self, piece: Piece, written: WrittenText) -> None:
        self._metrics.count("completion_tokens_total", piece.count, model=self.run.name)
        if written.broken is not None:
            self._metrics.count("filter_actions_total", rule=written.broken.name, side="answer")

    def _leave(self, row: int) -> None:
        del self._rows[row]
        self.batch.leave(row)

    def _fail(self) -> None:
        for ticket in self._tickets():
            if not ticket.over:
                ticket.send(faults.broken())
        self._waiting.clear()
        self._rows.clear()
        self.batch.clear()

    def _tickets(self) -> list[Ticket]:
        found = [*(ticket for ticket, _ in self._waiting), *(active.ticket for active in self._rows.values())]
        return list({id(ticket): ticket for ticket in found}.values())
